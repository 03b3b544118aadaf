// The protocol of a backend, and the options of opening one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "yowo/errors.hpp"
#include "yowo/spec.hpp"

namespace yowo {

// How a model file is opened, as `yowo_deploy.open_model` but for `streams`, of which there is one, and `cache`.
struct Options {
  std::string backend;  // "openvino", "onnxruntime" or "tensorrt"; by default the first compiled in that takes the file
  std::string device;   // "cpu", or "cuda" and "cuda:1" for plans; the engine's own by default
  std::string precision;   // the file's own by default; OpenVINO also takes "fp32" for fp16 files, and "bf16" for all
  int threads = 0;         // of the CPU; the engine's choice by default
  bool trust = false;      // load a plan without its recorded hash
  double confidence = -1;  // detections must exceed this; the spec's display threshold by default
  double iou = -1;         // suppression threshold; the spec's by default
  double keep = -1;        // objectness above which people who were shown stay so; the spec's by default
  int tube_scores = -1;    // average class scores along tubes, 1 or 0; by default where the spec has a `tube_decay`
  int cuts = -1;           // end all tubes at hard cuts, 1 or 0; by default where the spec has a `tube_decay`
};

// A loaded model. For one thread at a time.
class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  virtual const ModelSpec& spec() const = 0;

  // One clip, (3, T, H, W) float32, to its raw output, (A * (5 + C), rows, columns); valid until the next call.
  virtual const float* infer(const float* clip) = 0;
};

namespace detail {

using Shape = std::vector<std::int64_t>;

// The network must take and put out what the spec announces; shapes have the batch first, and -1 for sides not fixed.
// Throws ModelFileError: it does not, so the file and its spec do not belong together.
inline void check_shapes(const std::vector<Shape>& inputs, const std::vector<Shape>& outputs, const ModelSpec& spec,
                         const std::string& path) {
  const auto check = [&](const char* does, const std::vector<Shape>& shapes, const Shape& expected) {
    std::string said;
    for (const Shape& shape : shapes) said += (said.empty() ? "(" : " and (") + listed(shape) + ")";
    const bool right = shapes.size() == 1 && shapes[0].size() == expected.size() + 1 &&
                       (shapes[0][0] == 1 || shapes[0][0] == -1) &&
                       Shape(shapes[0].begin() + 1, shapes[0].end()) == expected;
    if (!right)
      throw ModelFileError(text(path, " ", does, " ", said.empty() ? "nothing" : said, ", its spec says (1, ",
                                listed(expected), "): export it again"));
  };
  check("takes", inputs, {3, spec.clip_length, spec.input_size[1], spec.input_size[0]});
  check("puts out", outputs, {spec.output_channels(), spec.rows(), spec.columns()});
}

inline std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// The last line that says something: OpenVINO's lines before tell where in it.
inline std::string last_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace detail
}  // namespace yowo
