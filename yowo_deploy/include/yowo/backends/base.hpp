// The protocol of a backend, and the options of opening one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "yowo/errors.hpp"
#include "yowo/preprocess/clip_buffer.hpp"
#include "yowo/spec.hpp"

namespace yowo {

// How a model file is opened and what is shown, as `yowo_deploy.open_model` and `DetectorOptions` say.
struct Options {
  std::string backend;  // "openvino", "onnxruntime" or "tensorrt"; by default the first compiled in that takes the file
  std::string device;   // "cpu", or "cuda" and "cuda:1" for plans; the engine's own by default
  std::string precision;   // the file's own by default; OpenVINO also takes "fp32" for fp16 files, and "bf16" for all
  int threads = 0;         // of the CPU; the engine's choice by default
  int parallel = 0;        // calls at once; by default 1, and in a pool as many as there are cores, four at most
  bool trust = false;      // load a plan without its recorded hash
  bool clips = false;      // whole clips also where a file carries a streaming form, which gives the same for less
  double confidence = -1;  // detections must exceed this; the spec's display threshold by default
  double iou = -1;         // suppression threshold; the spec's by default
  double keep = -1;        // objectness above which people who were shown stay so; the spec's by default, and less in
                           // proportion where `confidence` is below the spec's
  int every = 1;           // run the model on the first frame and every N-th after it; boxes stay in between
  int tube_scores = -1;    // average class scores along tubes, 1 or 0; by default where the spec has a `tube_decay`
  int cuts = -1;           // end all tubes at hard cuts, 1 or 0; by default where the spec has a `tube_decay`
};

// One video on its way through a backend.
class FrameStream {
 public:
  FrameStream() = default;
  FrameStream(const FrameStream&) = delete;
  FrameStream& operator=(const FrameStream&) = delete;
  virtual ~FrameStream() = default;

  // Where the planes of the next frame go, (H, W) each.
  virtual std::array<float*, 3> next() = 0;

  // Take the frame that was written to `next`; returns the raw output of the clip that ends with it, valid until the
  // next call, or nullptr where it is not `wanted`, which costs less. What lies before the first frame is filled with
  // it (the spec's start rule "repeat"). A frame on which a streaming file's engine failed is as if it had never been
  // pushed: later answers are those of the video without it.
  virtual const float* push(bool wanted) = 0;

  // Forget every frame: the next push is the first of a new video.
  virtual void reset() = 0;
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

  // A video frame by frame, which must not outlive the backend: of clips, or of a streaming file's frames.
  virtual std::unique_ptr<FrameStream> open_stream();

  // The same engine for another thread; either may outlive the other. Throws InputError: it is for one thread alone.
  virtual std::unique_ptr<Backend> another() {
    throw InputError("this engine works for one thread alone: open the model once for each, or take another engine");
  }
};

// Of a backend that takes clips: the ring of the newest frames.
class ClipStream final : public FrameStream {
 public:
  explicit ClipStream(Backend& backend) : backend_(backend), buffer_(backend.spec()) {}

  std::array<float*, 3> next() override { return buffer_.next(); }
  const float* push(bool wanted) override {
    const float* clip = buffer_.push();
    return wanted ? backend_.infer(clip) : nullptr;
  }
  void reset() override { buffer_.reset(); }

 private:
  Backend& backend_;
  ClipBuffer buffer_;
};

inline std::unique_ptr<FrameStream> Backend::open_stream() { return std::make_unique<ClipStream>(*this); }

namespace detail {

using Shape = std::vector<std::int64_t>;
using Named = std::vector<std::pair<std::string, Shape>>;

// Throws ModelFileError: the network takes no single clips, and a video gives one at a time.
inline void refuse_calls_of(std::int64_t clips, const std::string& path) {
  if (clips > 1)
    throw ModelFileError(text(path, " takes at least ", clips, " clips a call, and a video gives one at a time: ",
                              "export or build it without --batch, or with --batch 1"));
}

// The network must take and put out what the spec announces; shapes have the batch first, and -1 for sides not fixed.
// Throws ModelFileError: it does not, so the file and its spec do not belong together; or it takes no single clips.
inline void check_shapes(const Named& inputs, const Named& outputs, const ModelSpec& spec, const std::string& path) {
  if (!inputs.empty() && inputs[0].second.size() == 5) refuse_calls_of(inputs[0].second[0], path);
  const auto check = [&](const char* does, const Named& tensors, const Shape& expected, bool alone) {
    std::string said;
    for (const auto& [name, shape] : tensors) said += (said.empty() ? "(" : " and (") + listed(shape) + ")";
    const Shape first = tensors.empty() ? Shape{} : tensors[0].second;
    const bool right = (tensors.size() == 1 || !alone) && first.size() == expected.size() + 1 &&
                       (first[0] == 1 || first[0] == -1) && Shape(first.begin() + 1, first.end()) == expected;
    if (!right)
      throw ModelFileError(text(path, " ", does, " ", said.empty() ? "nothing" : said, ", its spec says (1, ",
                                listed(expected), "): export it again"));
  };
  check("takes", inputs, {3, spec.clip_length, spec.input_size[1], spec.input_size[0]}, true);
  check("outputs", outputs, {spec.output_channels(), spec.rows(), spec.columns()}, false);  // the first is "raw"
}

// Throws ModelFileError: the network takes bytes, and clips and streams hold floats here.
inline void refuse_bytes(const ModelSpec& spec, const std::string& path) {
  if (spec.input_type == "uint8")
    throw ModelFileError(path + " takes uint8, which runs in Python alone so far: export it without --uint8-input");
}

inline std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// The last line that says something: OpenVINO's lines before tell where in it.
inline std::string last_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace detail
}  // namespace yowo
