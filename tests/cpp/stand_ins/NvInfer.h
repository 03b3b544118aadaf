// What backends/trt.hpp calls, so that it is compiled at all. Nothing here is claimed of TensorRT, whose headers are in
// no package that a test can install.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nvinfer1 {

struct ILogger {
  enum class Severity { kERROR };
  virtual void log(Severity, const char*) noexcept = 0;
  virtual ~ILogger() = default;
};

struct Dims {
  std::int32_t nbDims;
  std::int64_t d[8];
};

enum class TensorIOMode { kINPUT, kOUTPUT };
enum class DataType { kFLOAT };

struct IExecutionContext {
  bool enqueueV3(void*) { return true; }
  bool setInputShape(const char*, const Dims&) { return true; }
  bool setTensorAddress(const char*, void*) { return true; }
};

struct ICudaEngine {
  std::int32_t getNbIOTensors() const { return 0; }
  const char* getIOTensorName(std::int32_t) const { return ""; }
  TensorIOMode getTensorIOMode(const char*) const { return TensorIOMode::kINPUT; }
  Dims getTensorShape(const char*) const { return {}; }
  DataType getTensorDataType(const char*) const { return DataType::kFLOAT; }
  IExecutionContext* createExecutionContext() { return nullptr; }
};

struct IRuntime {
  void setEngineHostCodeAllowed(bool) {}
  ICudaEngine* deserializeCudaEngine(const void*, std::size_t) { return nullptr; }
};

inline IRuntime* createInferRuntime(ILogger&) { return nullptr; }

}  // namespace nvinfer1

inline std::int32_t getInferLibVersion() { return 0; }
