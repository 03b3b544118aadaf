// Open a model file in the backend that it needs, of those that are compiled in.
//
// YOWO_WITH_OPENVINO, YOWO_WITH_ONNXRUNTIME, YOWO_WITH_TENSORRT and YOWO_WITH_TENSORRT_RTX say which those are; the
// CMake package defines them by its components.
#pragma once

#include <fstream>
#include <memory>
#include <string>

#include "yowo/backends/base.hpp"
#include "yowo/errors.hpp"
#include "yowo/model_files/onnx_reader.hpp"
#include "yowo/model_files/plan_record.hpp"

#if defined(YOWO_WITH_OPENVINO)
#include "yowo/backends/ov.hpp"
#endif
#if defined(YOWO_WITH_ONNXRUNTIME)
#include "yowo/backends/ort.hpp"
#endif
#if defined(YOWO_WITH_TENSORRT) || defined(YOWO_WITH_TENSORRT_RTX)
#include "yowo/backends/trt.hpp"
#endif

namespace yowo {

// The file that a user means: "default" is the model of the package, which the CMake package knows; all else is a path.
// Throws InputError: "default" where YOWO_DEFAULT_MODEL is not defined.
inline std::string model_path(const std::string& name) {
  if (name != "default") return name;
#if defined(YOWO_DEFAULT_MODEL)
  return YOWO_DEFAULT_MODEL;
#else
  throw InputError("no default model is compiled in: build with find_package(yowo_deploy CONFIG) from a package that "
                   "has model_zoo/yowo-lite.onnx, or give the path of a model file");
#endif
}

// Load a model file, or "default", into an engine. What the file is decides, not its name. With `streaming` it is for
// one video frame by frame: the streaming form of an ONNX file, where it carries one.
//
// Throws InputError: no such file, an unknown backend, or one that cannot take this kind of file or an option;
// ModelFileError, SpecError: the file is no model, is damaged, or carries no spec; MissingEngineError.
inline std::unique_ptr<Backend> open_model(const std::string& name, const Options& options = {},
                                           bool streaming = false) {
  const std::string path = model_path(name);
  std::ifstream stream = detail::existing_file(path, "model");
  const std::string& backend = options.backend;
  if (!backend.empty() && backend != "openvino" && backend != "onnxruntime" && backend != "tensorrt")
    throw InputError("backend '" + backend + "' is not known, expected one of openvino, onnxruntime, tensorrt");
  for (const int count : {options.threads, options.parallel})
    if (count < 0 || count > 1024)
      throw InputError(detail::text("threads or parallel is ", count, ", expected up to 1024, or 0 for the default"));
  const std::string head = detail::Bytes(stream).copy(0, 1);
  if (head == "P" || head == "\x80")
    throw InputError(path + " looks like a checkpoint: export it to ONNX with `yowo-deploy export`");
  if (is_plan(stream)) {
    if (!backend.empty() && backend != "tensorrt")
      throw InputError(backend + " cannot run the plan " + path +
                       ": give it the ONNX file that the plan was built from");
#if defined(YOWO_WITH_TENSORRT) || defined(YOWO_WITH_TENSORRT_RTX)
    return std::make_unique<TensorRtBackend>(path, options);
#else
    const PlanFile plan = PlanFile::read(stream, path);
    throw MissingEngineError(plan.flavour, plan.flavour);
#endif
  }
  if (backend == "tensorrt")
    throw InputError("tensorrt runs only plans, and " + path + " is not one: write one with `yowo-deploy build`");
  const OnnxFile file = OnnxFile::read(stream, path, streaming);
  detail::refuse_bytes(file.spec(path), path);
#if defined(YOWO_WITH_OPENVINO)
  if (backend.empty() || backend == "openvino")
    return std::make_unique<OpenVinoBackend>(path, file, options);
#endif
#if defined(YOWO_WITH_ONNXRUNTIME)
  if (backend.empty() || backend == "onnxruntime")
    return std::make_unique<OnnxRuntimeBackend>(path, file, options);
#endif
  throw MissingEngineError(backend.empty() ? "an engine for ONNX files" : backend,
                           backend.empty() ? "openvino" : backend);
}

}  // namespace yowo
