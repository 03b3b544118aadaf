// The TensorRT and TensorRT-RTX backend.
//
// Never compiled against TensorRT and never run: no machine at hand had NvInfer.h. By TensorRT 10's documented C++ API.
#pragma once

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "yowo/backends/base.hpp"
#include "yowo/errors.hpp"
#include "yowo/model_files/plan_record.hpp"
#include "yowo/spec.hpp"

#if defined(YOWO_WITH_TENSORRT_RTX)
#define YOWO_TENSORRT_FLAVOUR "tensorrt-rtx"
#else
#define YOWO_TENSORRT_FLAVOUR "tensorrt"
#endif

namespace yowo {

// A plan on the GPU, one clip a call. Throws InputError: no GPU, or an option that a plan has not; ModelFileError: the
// plan is damaged, is not ours, or is for another machine.
class TensorRtBackend final : public Backend {
 public:
  TensorRtBackend(const std::string& path, const Options& options) : path_(path) {
    std::ifstream stream = detail::existing_file(path, "plan");
    plan_ = PlanFile::read(stream, path);
    if ((!options.precision.empty() && options.precision != plan_.spec.precision) || options.threads > 0)
      throw InputError(path + " computes in " + plan_.spec.precision + " on the GPU: leave precision and threads out");
    if (plan_.spec.streaming)
      throw ModelFileError(path + " is of a streaming file, which runs in Python alone so far: build a plan of clips");
    detail::refuse_bytes(plan_.spec, path_);
    detail::refuse_calls_of(plan_.batch[0], path);
    stream.clear();
    stream.seekg(0);
    const std::vector<char> content{std::istreambuf_iterator<char>(stream), {}};
    verify_plan({content.data(), content.size()}, path, options.trust);
    choose_device(options.device);
    load(content);
  }

  const ModelSpec& spec() const override { return plan_.spec; }

  const float* infer(const float* clip) override {
    listener_.reason = Listener::kNone;
    require(cudaSetDevice(device_));  // it is a thread's own, and this may be another than the one that opened the plan
    require(cudaMemcpyAsync(gpu_.there[0], clip, plan_.spec.clip_size() * sizeof(float), cudaMemcpyHostToDevice,
                            gpu_.stream));
    if (!context_->enqueueV3(gpu_.stream)) throw YowoError(path_ + " failed on the GPU: " + listener_.reason);
    require(cudaMemcpyAsync(gpu_.raw, gpu_.there[1], plan_.spec.output_size() * sizeof(float), cudaMemcpyDeviceToHost,
                            gpu_.stream));
    require(cudaStreamSynchronize(gpu_.stream));
    return static_cast<const float*>(gpu_.raw);
  }

 private:
  struct Listener final : nvinfer1::ILogger {
    static constexpr const char* kNone = "it gives no reason";
    std::string reason = kNone;  // the first error since it was set to that

    void log(Severity severity, const char* message) noexcept override {
      if (severity <= Severity::kERROR && reason == kNone) reason = detail::first_line(message);
    }
  };

  struct Gpu {
    cudaStream_t stream = nullptr;
    std::vector<void*> there;  // the clip, its answer, and outputs behind it, which are not read
    void* raw = nullptr;       // the answer, in pinned memory

    Gpu() = default;
    Gpu(const Gpu&) = delete;
    Gpu& operator=(const Gpu&) = delete;
    ~Gpu() {
      for (void* memory : there) cudaFree(memory);
      cudaFreeHost(raw);
      if (stream) cudaStreamDestroy(stream);
    }
  };

  static void require(cudaError_t status) {
    if (status != cudaSuccess) throw YowoError(std::string("CUDA failed: ") + cudaGetErrorString(status));
  }

  void choose_device(const std::string& device) {
    const bool numbered = device.rfind("cuda:", 0) == 0 && device.size() < 9 &&
                          device.find_first_not_of("0123456789", 5) == std::string::npos;
    if (!device.empty() && device != "cuda" && !numbered)
      throw InputError("a plan runs on cuda or cuda:N, not on '" + device + "'");
    device_ = numbered && device.size() > 5 ? std::stoi(device.substr(5)) : 0;
    cudaDeviceProp properties{};
    if (cudaSetDevice(device_) != cudaSuccess || cudaGetDeviceProperties(&properties, device_) != cudaSuccess)
      throw InputError(detail::text("there is no GPU of number ", device_, " that CUDA can use: a plan needs one"));
    const std::string said = library_version(YOWO_TENSORRT_FLAVOUR, getInferLibVersion());
    check_plan(path_, plan_, YOWO_TENSORRT_FLAVOUR, said, detail::text(properties.major, ".", properties.minor));
    require(cudaStreamCreate(&gpu_.stream));
  }

  void load(const std::vector<char>& content) {
    runtime_.reset(nvinfer1::createInferRuntime(listener_));
    if (runtime_ && plan_.version_compatible) runtime_->setEngineHostCodeAllowed(true);
    engine_.reset(runtime_ ? runtime_->deserializeCudaEngine(content.data(), content.size()) : nullptr);
    context_.reset(engine_ ? engine_->createExecutionContext() : nullptr);
    if (!context_) throw ModelFileError(plan_.flavour + " cannot load " + path_ + ": " + listener_.reason);
    bind();
  }

  void bind() {
    std::array<detail::Named, 2> ports;  // inputs, outputs
    for (int at = 0; at < engine_->getNbIOTensors(); ++at) {
      const char* name = engine_->getIOTensorName(at);
      const bool output = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kOUTPUT;
      const nvinfer1::Dims dims = engine_->getTensorShape(name);
      detail::Shape shape(dims.d, dims.d + std::max(0, static_cast<int>(dims.nbDims)));
      ports[output].emplace_back(name, std::move(shape));
      if (engine_->getTensorDataType(name) != nvinfer1::DataType::kFLOAT)
        throw ModelFileError(path_ + " has inputs or outputs other than float32: build it again");
    }
    const ModelSpec& spec = plan_.spec;
    detail::check_shapes(ports[0], ports[1], spec, path_);
    require(cudaMallocHost(&gpu_.raw, spec.output_size() * sizeof(float)));
    const nvinfer1::Dims clip{5, {1, 3, spec.clip_length, spec.input_size[1], spec.input_size[0]}};
    bool taken = context_->setInputShape(ports[0][0].first.c_str(), clip);
    for (const detail::Named& some : ports)
      for (const auto& [name, shape] : some) {
        std::size_t size = sizeof(float);
        for (const std::int64_t side : shape)  // of one clip, if their number is open
          size *= static_cast<std::size_t>(std::max<std::int64_t>(side, 1));
        gpu_.there.push_back(nullptr);
        require(cudaMalloc(&gpu_.there.back(), size));
        taken = taken && context_->setTensorAddress(name.c_str(), gpu_.there.back());
      }
    if (!taken) throw ModelFileError(path_ + " does not take one clip: " + listener_.reason);
  }

  std::string path_;
  PlanFile plan_;
  int device_ = 0;
  Listener listener_;  // before what needs them: they must live longer
  Gpu gpu_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

}  // namespace yowo
