// The ONNX Runtime backend.
//
// Its wheel has the library without the headers; docs/cpp.md says where those are. CUDA was never run.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "yowo/backends/base.hpp"
#include "yowo/backends/streaming.hpp"
#include "yowo/errors.hpp"
#include "yowo/model_files/onnx_reader.hpp"
#include "yowo/spec.hpp"

namespace yowo {

// An ONNX file on ONNX Runtime, on the CPU or on CUDA without TF32. Throws InputError: a device or precision that it
// has not; ModelFileError: it cannot load the file.
class OnnxRuntimeBackend final : public Backend {
 public:
  OnnxRuntimeBackend(const std::string& path, const OnnxFile& file, const Options& options) : spec_(file.spec(path)) {
    if (!options.precision.empty() && options.precision != spec_.precision)
      throw InputError("onnxruntime takes its precision from the graph, and " + path + " is " + spec_.precision +
                       ": leave " + options.precision + " out");
    try {
      load(path, file.model, options);
    } catch (const Ort::Exception& error) {
      throw ModelFileError("onnxruntime cannot load " + path + ": " + detail::first_line(error.what()));
    }
  }

  const ModelSpec& spec() const override { return spec_; }

  const float* infer(const float* clip) override {
    if (spec_.streaming) throw InputError("a streaming file takes frames: call open_stream()");
    const char* const input = input_.c_str();
    const char* const output = output_.c_str();
    return guarded([&] {
      // ONNX Runtime reads the clip where it lies; its API has no tensor of constant values.
      const Ort::Value clips = Ort::Value::CreateTensor<float>(memory_, const_cast<float*>(clip), spec_.clip_size(),
                                                               shape_.data(), shape_.size());
      answer_ = session_->Run(Ort::RunOptions{nullptr}, &input, &clips, 1, &output, 1);
      return answer_[0].GetTensorData<float>();
    });
  }

  std::unique_ptr<Backend> another() override {
    return std::unique_ptr<Backend>(new OnnxRuntimeBackend(*this));
  }

  std::unique_ptr<FrameStream> open_stream() override {
    if (!spec_.streaming) return Backend::open_stream();
    return guarded([&] { return std::make_unique<KeptStream>(std::make_unique<FrameStep>(*this), keeping_, spec_); });
  }

 private:
  OnnxRuntimeBackend(const OnnxRuntimeBackend& other)
      : Backend(),
        spec_(other.spec_),
        environment_(other.environment_),
        session_(other.session_),
        keeping_(other.keeping_),
        ports_(other.ports_),
        shape_(other.shape_),
        input_(other.input_),
        output_(other.output_) {}

  // A map is a value of ONNX Runtime on the CPU, which computes all of the graph whatever is wanted of it.
  class FrameStep final : public Step {
   public:
    explicit FrameStep(OnnxRuntimeBackend& engine) : engine_(engine), binding_(*engine.session_) {}

    std::size_t memory(std::size_t output) override {
      const Ort::TypeInfo type = engine_.session_->GetOutputTypeInfo(engine_.ports_[output]);
      const auto tensor = type.GetTensorTypeAndShapeInfo();
      const std::vector<std::int64_t> shape = tensor.GetShape();
      maps_.push_back(Ort::Value::CreateTensor(allocator_, shape.data(), shape.size(), tensor.GetElementType()));
      return maps_.size() - 1;
    }

    const float* run(const float* frames, const std::vector<std::size_t>& reads, const std::vector<std::size_t>& writes,
                     bool whole) override {
      const ModelSpec& spec = engine_.spec_;
      const std::array<std::int64_t, 4> shape{1, 3 * static_cast<std::int64_t>(engine_.keeping_.frames),
                                              spec.input_size[1], spec.input_size[0]};
      return engine_.guarded([&] {
        const std::size_t count = 3 * engine_.keeping_.frames * spec.plane_size();
        const Ort::Value newest = Ort::Value::CreateTensor<float>(engine_.memory_, const_cast<float*>(frames), count,
                                                                  shape.data(), shape.size());
        binding_.ClearBoundInputs(), binding_.ClearBoundOutputs();
        binding_.BindInput(Keeping::frames_name, newest);
        for (std::size_t at = 0; at < reads.size(); ++at)
          binding_.BindInput(engine_.keeping_.inputs[at].name.c_str(), maps_[reads[at]]);
        for (std::size_t at = 0; at < writes.size(); ++at)
          binding_.BindOutput(engine_.keeping_.outputs[at].name.c_str(), maps_[writes[at]]);
        if (whole) binding_.BindOutput(Keeping::raw_name, engine_.memory_);
        engine_.session_->Run(Ort::RunOptions{nullptr}, binding_);
        answer_ = binding_.GetOutputValues();
        return whole ? answer_.back().GetTensorData<float>() : nullptr;
      });
    }

   private:
    OnnxRuntimeBackend& engine_;
    Ort::IoBinding binding_;
    Ort::AllocatorWithDefaultOptions allocator_;
    std::vector<Ort::Value> maps_, answer_;
  };

  template <class Work>
  static std::invoke_result_t<Work> guarded(const Work& work) {
    try {
      return work();
    } catch (const Ort::Exception& error) {
      throw YowoError("onnxruntime failed: " + detail::first_line(error.what()));
    }
  }

  void load(const std::string& path, const std::string& model, const Options& options) {
    Ort::SessionOptions session;
    session.SetLogSeverityLevel(3);
    const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    const int threads = options.threads > 0 ? options.threads : cores;
    if (options.parallel > 1)  // a call runs in its own thread and these
      session.SetIntraOpNumThreads(std::max(1, threads / options.parallel));
    else if (options.threads > 0)
      session.SetIntraOpNumThreads(threads);
    if (options.device.rfind("cuda", 0) == 0) {
      append_cuda(session, options.device);
    } else if (!options.device.empty() && options.device != "cpu") {
      throw InputError("onnxruntime has no device '" + options.device + "' here, expected cpu, cuda or cuda:N");
    }
    session_ = std::make_shared<Ort::Session>(*environment_, model.data(), model.size(), session);
    const Ort::AllocatorWithDefaultOptions allocator;
    detail::Named inputs, outputs;
    for (std::size_t at = 0; at < session_->GetInputCount(); ++at)
      inputs.emplace_back(session_->GetInputNameAllocated(at, allocator).get(),
                          session_->GetInputTypeInfo(at).GetTensorTypeAndShapeInfo().GetShape());
    for (std::size_t at = 0; at < session_->GetOutputCount(); ++at) {
      outputs.emplace_back(session_->GetOutputNameAllocated(at, allocator).get(),
                           session_->GetOutputTypeInfo(at).GetTensorTypeAndShapeInfo().GetShape());
      if (outputs.back().first != Keeping::raw_name) ports_.push_back(at);
    }
    if (spec_.streaming) {
      if (options.device.rfind("cuda", 0) == 0)
        throw InputError("a streaming file keeps its maps on the CPU here: leave the device out, or run it in Python");
      keeping_ = Keeping::of(inputs, outputs, spec_, path);
      return;
    }
    detail::check_shapes(inputs, outputs, spec_, path);
    input_ = inputs[0].first, output_ = outputs[0].first;
    shape_ = {1, 3, spec_.clip_length, spec_.input_size[1], spec_.input_size[0]};
  }

  // Without TF32, which keeps ten bits: a file that says fp32 means 23.
  static void append_cuda(Ort::SessionOptions& session, const std::string& device) {
    const std::string index = device == "cuda" ? "0" : device.substr(5 < device.size() ? 5 : 4);
    if (index.empty() || index.size() > 3 || index.find_first_not_of("0123456789") != std::string::npos)
      throw InputError("onnxruntime has no device '" + device + "' here, expected cpu, cuda or cuda:N");
    OrtCUDAProviderOptionsV2* cuda = nullptr;
    Ort::ThrowOnError(Ort::GetApi().CreateCUDAProviderOptions(&cuda));
    const auto release = [](OrtCUDAProviderOptionsV2* made) { Ort::GetApi().ReleaseCUDAProviderOptions(made); };
    const std::unique_ptr<OrtCUDAProviderOptionsV2, decltype(release)> held(cuda, release);
    const std::array<const char*, 2> keys{"device_id", "use_tf32"}, values{index.c_str(), "0"};
    Ort::ThrowOnError(Ort::GetApi().UpdateCUDAProviderOptions(cuda, keys.data(), values.data(), keys.size()));
    session.AppendExecutionProvider_CUDA_V2(*cuda);
  }

  ModelSpec spec_;
  std::shared_ptr<Ort::Env> environment_ = std::make_shared<Ort::Env>(ORT_LOGGING_LEVEL_ERROR, "yowo");
  std::shared_ptr<Ort::Session> session_;  // any number of threads may run it at once
  Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Keeping keeping_;
  std::vector<std::size_t> ports_;  // of a streaming file: the number of each kept output among all
  std::vector<Ort::Value> answer_;
  std::array<std::int64_t, 5> shape_{};
  std::string input_, output_;
};

}  // namespace yowo
