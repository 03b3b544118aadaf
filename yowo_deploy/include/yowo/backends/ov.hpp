// The OpenVINO backend.
#pragma once

#include <algorithm>
#include <cstddef>
#include <openvino/runtime/core.hpp>
#include <openvino/runtime/properties.hpp>
#include <string>
#include <utility>
#include <vector>

#include "yowo/backends/base.hpp"
#include "yowo/errors.hpp"
#include "yowo/model_files/onnx_reader.hpp"
#include "yowo/spec.hpp"

namespace yowo {

// An ONNX file on OpenVINO. Throws InputError: a device or precision that it has not; ModelFileError: it cannot load
// it.
class OpenVinoBackend final : public Backend {
 public:
  OpenVinoBackend(const std::string& path, const OnnxFile& file, const Options& options) : spec_(file.spec(path)) {
    if (!options.device.empty() && options.device != "cpu")
      throw InputError("openvino runs on the cpu here, not on '" + options.device + "'");
    const std::string precision = chosen(path, options.precision);
    try {
      compile(path, file.model, precision, options.threads);
    } catch (const ov::Exception& error) {
      throw ModelFileError("openvino cannot load " + path + ": " + detail::last_line(error.what()));
    }
  }

  const ModelSpec& spec() const override { return spec_; }

  const float* infer(const float* clip) override {
    try {
      // OpenVINO reads the clip where it lies; its API has no tensor of constant values.
      request_.set_input_tensor(ov::Tensor(ov::element::f32, shape_, const_cast<float*>(clip)));
      request_.infer();
      return request_.get_output_tensor().data<const float>();
    } catch (const ov::Exception& error) {
      throw YowoError("openvino failed: " + detail::last_line(error.what()));
    }
  }

 private:
  // Precision is always said: OpenVINO would pick bf16 by itself where the CPU has it.
  std::string chosen(const std::string& path, const std::string& asked) const {
    const std::string& own = spec_.precision;
    std::vector<std::string> allowed{own, "bf16"};
    if (own != "int8") allowed.push_back("fp32");
    if (!asked.empty() && std::find(allowed.begin(), allowed.end(), asked) == allowed.end())
      throw InputError("openvino runs " + path + " in one of " + detail::listed(allowed) + ", not in " + asked);
    return asked.empty() ? own : asked;
  }

  void compile(const std::string& path, const std::string& model, const std::string& precision, int threads) {
    ov::Core core;
    const auto can = core.get_property("CPU", ov::device::capabilities);
    if (precision == "bf16" && std::find(can.begin(), can.end(), ov::device::capability::BF16) == can.end())
      throw InputError("this CPU has no bf16, in which " + path + " was to run: ask for another precision");
    ov::AnyMap config{ov::hint::inference_precision(precision == "bf16" ? ov::element::bf16 : ov::element::f32),
                      ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
    if (threads > 0) config.insert(ov::inference_num_threads(threads));
    ov::CompiledModel compiled = core.compile_model(core.read_model(model, ov::Tensor()), "CPU", config);
    detail::check_shapes(shapes(compiled.inputs()), shapes(compiled.outputs()), spec_, path);
    request_ = compiled.create_infer_request();
    const auto side = [](int length) { return static_cast<std::size_t>(length); };
    shape_ = {1, 3, side(spec_.clip_length), side(spec_.input_size[1]), side(spec_.input_size[0])};
  }

  static std::vector<detail::Shape> shapes(const std::vector<ov::Output<const ov::Node>>& tensors) {
    std::vector<detail::Shape> all;
    for (const auto& tensor : tensors) {
      detail::Shape shape;
      const ov::PartialShape known = tensor.get_partial_shape();
      if (known.rank().is_static())
        for (const ov::Dimension& side : known) shape.push_back(side.is_static() ? side.get_length() : -1);
      all.push_back(std::move(shape));
    }
    return all;
  }

  ModelSpec spec_;
  ov::InferRequest request_;
  ov::Shape shape_;
};

}  // namespace yowo
