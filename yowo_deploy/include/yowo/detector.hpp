// Detect people and their actions in a video frame by frame: one result a frame.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "yowo/backends/base.hpp"
#include "yowo/boxes.hpp"
#include "yowo/preprocess/clip_buffer.hpp"
#include "yowo/preprocess/cuts.hpp"
#include "yowo/postprocess/decode.hpp"
#include "yowo/postprocess/linker.hpp"
#include "yowo/errors.hpp"
#include "yowo/json.hpp"
#include "yowo/backends/loader.hpp"
#include "yowo/preprocess/frames.hpp"
#include "yowo/spec.hpp"

namespace yowo {

// Milliseconds by stage.
struct Speed {
  double preprocess = 0, infer = 0, postprocess = 0, link = 0;
};

// What was found in one frame.
struct Result {
  std::int64_t frame_index = 0;    // from 0
  int width = 0, height = 0;       // of the frame
  Detections detections;           // boxes in its pixels, each with the `tracker_id` of its person
  std::vector<std::string> names;  // label of each class
  std::vector<Tube> ended;         // tubes that ended since the result before
  Speed speed;
  double label_threshold = -1;  // score above which a box has further labels (AVA's models); negative: it has one

  // One line, as Python's `Result.to_json` without version, source and time: the frame's index and its detections, best
  // first.
  std::string to_json() const {
    std::string json = "{\"frame\": " + std::to_string(frame_index) + ", \"detections\": [";
    for (std::size_t row = 0; row < detections.size(); ++row) {
      const Box& box = detections.xyxy[row];
      append_label(json += row ? ", {" : "{", detections.class_id[row], detections.confidence[row]);
      if (label_threshold >= 0) {
        json += ", \"labels\": [";
        for (const int class_id : detections.classes_above(row, label_threshold))
          append_label(json += json.back() == '[' ? "{" : "}, {", class_id, detections.scores_of(row)[class_id]);
        json += "}]";
      }
      if (row < detections.tracker_id.size()) json += ", \"tracker_id\": " + std::to_string(detections.tracker_id[row]);
      json += ", \"xyxy\": [" + rounded(box.x1, 2) + ", " + rounded(box.y1, 2) + ", " + rounded(box.x2, 2) + ", " +
              rounded(box.y2, 2) + "]}";
    }
    return json + "]}";
  }

 private:
  void append_label(std::string& json, int class_id, float score) const {
    append_json_text(json += "\"label\": ", names[static_cast<std::size_t>(class_id)]);
    json += ", \"class_id\": " + std::to_string(class_id) + ", \"confidence\": " + rounded(score, 5);
  }

  // "0.5", whatever the program's locale.
  static std::string rounded(float value, int digits) {
    long long scale = 1;
    for (int digit = 0; digit < digits; ++digit) scale *= 10;
    const long long whole = std::llrint(static_cast<double>(value) * static_cast<double>(scale));
    std::string fraction = std::to_string(scale + whole % scale).substr(1);
    while (fraction.size() > 1 && fraction.back() == '0') fraction.pop_back();
    return std::to_string(whole / scale) + "." + fraction;
  }
};

// Push frames of one video, get a result for each. Once frames of a size have come, nothing here
// allocates but what `OnlineLinker` says.
//
//     yowo::Detector detector = yowo::Detector::open("yowo.onnx");
//     while (camera.read(frame)) use(detector.push({frame.data, frame.cols, frame.rows}));
class Detector {
 public:
  // `confidence` to `cuts` of the options; the others are for opening. Throws InputError: a threshold is above 1.
  explicit Detector(std::unique_ptr<Backend> backend, const Options& options = {})
      : backend_(std::move(backend)),
        preprocess_(spec()),
        buffer_(spec()),
        decoder_(spec()),
        confidence_(options.confidence < 0 ? spec().confidence_threshold : options.confidence),
        iou_(options.iou < 0 ? spec().nms_threshold : options.iou),
        keep_(options.keep < 0 ? spec().keep_threshold : options.keep) {
    if (!(confidence_ <= 1) || !(iou_ <= 1) || !(keep_ <= 1))
      throw InputError(detail::text("confidence ", confidence_, ", iou ", iou_, ", keep ", keep_, ": expected 0 to 1"));
    keep_ = std::min(confidence_, keep_);
    const double decay = spec().tube_decay;
    if (options.tube_scores < 0 ? decay > 0 : options.tube_scores != 0) decay_ = decay > 0 ? decay : default_tube_decay;
    find_cuts_ = options.cuts < 0 ? decay > 0 : options.cuts != 0;
    reset();
    decoder_.reserve(result_.detections);
    result_.names = spec().labels;
    if (spec().class_activation != "softmax") result_.label_threshold = confidence_;
  }

  // Load a model file, by default that of the package, into one of the engines that are compiled in; throws what
  // `open_model` throws.
  static Detector open(const std::string& path = "default", const Options& options = {}) {
    return Detector(open_model(path, options), options);
  }

  const ModelSpec& spec() const { return backend_->spec(); }

  // The next frame of the video, of any size; one of another size, and a hard cut, end all tubes. The result is valid
  // until the next push.
  // Throws InputError: no frame; ModelFileError: the network answers with NaN or infinity; YowoError: the engine
  // failed.
  Result& push(const FrameView& frame) {
    const auto start = Clock::now();
    preprocess_(frame, buffer_.next());
    const float* clip = buffer_.push();
    const bool cut = find_cuts_ && cuts_.push(frame);
    const auto prepared = Clock::now();
    result_.frame_index = count_++;
    const float* raw = backend_->infer(clip);
    const auto inferred = Clock::now();
    try {
      decoder_.detect(raw, frame.width, frame.height, confidence_, iou_, result_.detections, keep_);
    } catch (const ModelFileError& error) {
      throw ModelFileError(detail::text("frame ", result_.frame_index, ": ", error.what()));
    }
    const auto decoded = Clock::now();
    const bool resized = frame.width != result_.width || frame.height != result_.height;
    result_.ended = resized || cut ? linker_.close() : linker_.finished();  // their boxes are of another scene
    result_.width = frame.width, result_.height = frame.height;
    linker_.push(result_.detections, result_.frame_index);
    for (Tube& tube : linker_.finished()) result_.ended.push_back(std::move(tube));
    result_.speed = {milliseconds(start, prepared), milliseconds(prepared, inferred), milliseconds(inferred, decoded),
                     milliseconds(decoded, Clock::now())};
    return result_;
  }

  // The tracks with a box in the last frame, oldest first; valid until the next call.
  const std::vector<const Track*>& tracks() const { return linker_.tracks(); }

  // End the tubes that are alive and return those that no result had as `ended`.
  std::vector<Tube> finish() { return linker_.close(); }

  // Forget the frames so far: the next one starts a new video, with people numbered from 0.
  void reset() {
    buffer_.reset(), cuts_.reset();
    count_ = 0;
    // Tubes of one frame are not among those that end: it is uncertain whether anyone was there.
    linker_ = OnlineLinker(5, 0.2, 1000, 0.5, 50, 2, decay_, confidence_, keep_ > 0 ? keep_ : -1);
  }

 private:
  using Clock = std::chrono::steady_clock;

  static double milliseconds(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
  }

  std::unique_ptr<Backend> backend_;
  Preprocessor preprocess_;
  ClipBuffer buffer_;
  CutDetector cuts_;
  bool find_cuts_ = false;
  Decoder decoder_;
  OnlineLinker linker_;
  double confidence_, iou_, keep_, decay_ = 0;
  std::int64_t count_ = 0;
  Result result_;
};

}  // namespace yowo
