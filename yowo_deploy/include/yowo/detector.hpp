// Detect people and their actions in a video frame by frame: one result a frame.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <future>
#include <iomanip>
#include <limits>
#include <locale>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "yowo/backends/base.hpp"
#include "yowo/boxes.hpp"
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
  static constexpr int line_version = 1;  // of `to_json`

  std::int64_t frame_index = 0;    // from 0
  int width = 0, height = 0;       // of the frame
  Detections detections;           // boxes in its pixels, each with the `tracker_id` of its person
  std::vector<std::string> names;  // label of each class
  std::vector<Tube> ended;         // tubes that ended since the result before
  Speed speed;
  double label_threshold = -1;  // score above which a box has further labels (AVA's models); negative: it has one
  double timestamp = std::numeric_limits<double>::quiet_NaN();  // seconds since the video began; NaN where unknown
  std::string source;                                           // name of the video, "" where unknown
  bool carried = false;  // the engine was not asked for this frame (`every`): boxes stay where they were

  // One line, as Python's `Result.to_json`, by `frames.schema.json` in the package; unknown fields are left out.
  std::string to_json() const {
    std::string json = "{\"v\": " + std::to_string(line_version);
    if (!source.empty()) append_json_text(json += ", \"source\": ", source);
    json += ", \"frame\": " + std::to_string(frame_index);
    if (std::isfinite(timestamp)) json += ", \"time\": " + rounded(timestamp, 4);
    json += carried ? ", \"carried\": true, \"detections\": [" : ", \"detections\": [";
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
  static std::string rounded(double value, int digits) {
    std::ostringstream stream;
    stream.imbue(std::locale::classic());
    stream << std::fixed << std::setprecision(digits) << value;
    std::string made = stream.str();
    while (made.back() == '0' && made[made.size() - 2] != '.') made.pop_back();
    return made;
  }
};

// Push frames of one video, get a result for each. Once frames of a size have come, nothing here
// allocates but what `OnlineLinker` says.
//
//     yowo::Detector detector = yowo::Detector::open("yowo.onnx");
//     while (camera.read(frame)) use(detector.push({frame.data, frame.cols, frame.rows}));
class Detector {
 public:
  // `confidence` to `cuts` of the options; the others are for opening. Throws InputError: a threshold is above 1, or
  // `every` below 1.
  explicit Detector(std::unique_ptr<Backend> backend, const Options& options = {})
      : backend_(std::move(backend)),
        preprocess_(spec()),
        stream_(backend_->open_stream()),
        decoder_(spec()),
        confidence_(options.confidence < 0 ? spec().confidence_threshold : options.confidence),
        iou_(options.iou < 0 ? spec().nms_threshold : options.iou),
        keep_(options.keep < 0 ? spec().keep_threshold : options.keep),
        every_(options.every),
        parallel_(options.parallel < 2 ? 1 : static_cast<std::size_t>(options.parallel)) {
    if (!(confidence_ <= 1) || !(iou_ <= 1) || !(keep_ <= 1))
      throw InputError(detail::text("confidence ", confidence_, ", iou ", iou_, ", keep ", keep_, ": expected 0 to 1"));
    if (every_ < 1) throw InputError(detail::text("every is ", every_, ", expected 1 or more frames"));
    const double usual = spec().confidence_threshold;
    if (options.keep < 0 && confidence_ < usual) keep_ = spec().keep_threshold * (confidence_ / usual);
    const double decay = spec().tube_decay;
    if (options.tube_scores < 0 ? decay > 0 : options.tube_scores != 0) decay_ = decay > 0 ? decay : default_tube_decay;
    find_cuts_ = options.cuts < 0 ? decay > 0 : options.cuts != 0;
    reset();
    decoder_.reserve(result_.detections);
    result_.names = spec().labels;
    if (spec().class_activation != "softmax") result_.label_threshold = confidence_;
  }

  // Load a model file, by default that of the package, into one of the engines that are compiled in; throws what
  // `open_model` throws. Where the model runs on every frame, a file that carries a streaming form runs in it.
  static Detector open(const std::string& path = "default", const Options& options = {}) {
    return Detector(open_model(path, options, options.every == 1 && !options.clips), options);
  }

  const ModelSpec& spec() const { return backend_->spec(); }

  // The next frame of the video, of any size; one of another size, and a hard cut, end all tubes. The result is valid
  // until the next push. `timestamp` is in seconds since the video began, for the result; `index` the number of the
  // frame, where frames were dropped.
  // Throws InputError: no frame, or its number or time is none; ModelFileError: the network answers with NaN or
  // infinity; YowoError: the engine failed.
  Result& push(const FrameView& frame, double timestamp = std::numeric_limits<double>::quiet_NaN(),
               std::int64_t index = -1) {
    const Task task = take(frame, timestamp, index, stream_->next());
    const auto prepared = Clock::now();
    const float* raw = stream_->push(task.asked);
    const auto inferred = Clock::now();
    if (task.asked) decode(decoder_, raw, task, result_.detections);
    return finish(task, {0, milliseconds(prepared, inferred), milliseconds(inferred, Clock::now()), 0});
  }

  // As `reset` and then `push` for every frame that `read()` gives, until one without pixels; `use(result)` gets each
  // in order. Clips are worked on `parallel` at once, a streaming file's frames one after the other; a frame must stay
  // as it is until the next one is read.
  // Throws what `push` throws, and InputError: the engine is for one thread alone.
  template <class Read, class Use>
  void stream(const Read& read, const Use& use, const std::string& source = "") {
    reset(source);
    if (parallel_ < 2 || spec().streaming) {
      for (FrameView frame = read(); frame.data; frame = read()) use(push(frame));
      return;
    }
    while (lanes_.size() < parallel_) lanes_.push_back(std::make_unique<Lane>(backend_->another()));
    for (auto& lane : lanes_) lane->stream->reset();
    const Running running{lanes_};
    std::size_t given = 0, taken = 0;
    const auto collect = [&] {
      Lane& lane = *lanes_[taken++ % parallel_];
      const auto spent = lane.done.get();
      if (lane.task.asked) std::swap(result_.detections, lane.found);
      use(finish(lane.task, spent));
    };
    for (FrameView frame = read(); frame.data; frame = read(), ++given) {
      if (given - taken == parallel_) collect();
      start(given, frame);
    }
    while (taken < given) collect();
  }

  // The tracks with a box in the last frame, oldest first; valid until the next call.
  const std::vector<const Track*>& tracks() const { return linker_.tracks(); }

  // End the tubes that are alive and return those that no result had as `ended`.
  std::vector<Tube> finish() { return linker_.close(); }

  // Forget the frames so far: the next one starts a new video, with people numbered from 0; `source` is its name, for
  // the results.
  void reset(const std::string& source = "") {
    stream_->reset(), cuts_.reset();
    count_ = 0, number_ = -1;
    result_.source = source, result_.detections.clear(), result_.ended.clear();
    // Tubes of one frame are not among those that end: it is uncertain whether anyone was there.
    // Up to 50 frames in a row may have been dropped, beside those between two runs of the model.
    linker_ = OnlineLinker(5, 0.2, 1000, 0.5, 49 + std::min(every_, 1 << 30), 2, decay_, confidence_,
                           keep_ > 0 ? keep_ : -1);
  }

 private:
  using Clock = std::chrono::steady_clock;

  static double milliseconds(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
  }

  // A frame in its place. `asked`: the model is to answer; `anew`: boxes before are of another scene.
  struct Task {
    std::int64_t number = 0;
    double timestamp = 0, preprocess = 0;
    int width = 0, height = 0;
    bool asked = false, anew = false;
  };

  // One of several calls at once, with clips of its own.
  struct Lane {
    explicit Lane(std::unique_ptr<Backend> engine)
        : backend(std::move(engine)), stream(backend->open_stream()), decoder(backend->spec()) {
      decoder.reserve(found);
      planes.resize(3 * backend->spec().plane_size());
    }

    std::unique_ptr<Backend> backend;
    std::unique_ptr<FrameStream> stream;
    Decoder decoder;
    Detections found;
    std::vector<float> planes;  // of the frame whose turn it was
    Task task;
    std::future<Speed> done;
  };

  // Waits for calls that are at work, whatever was thrown.
  struct Running {
    std::vector<std::unique_ptr<Lane>>& lanes;
    ~Running() {
      for (auto& lane : lanes)
        if (lane->done.valid()) lane->done.wait();
    }
  };

  // Preprocess a frame and find its place in the video.
  Task take(const FrameView& frame, double timestamp, std::int64_t index, const std::array<float*, 3>& planes) {
    const auto start = Clock::now();
    if (std::isinf(timestamp)) throw InputError("the time of a frame is infinite, expected seconds, or NaN if unknown");
    Task task;
    task.number = index < 0 ? number_ + 1 : index, task.timestamp = timestamp;
    task.width = frame.width, task.height = frame.height;
    if (task.number <= number_)
      throw InputError(detail::text("frame ", task.number, " comes after frame ", number_,
                                    ": call reset() where a new video begins"));
    preprocess_(frame, planes);
    task.anew = find_cuts_ && cuts_.push(frame);
    task.anew |= count_ > 0 && (frame.width != size_[0] || frame.height != size_[1]);
    task.asked = count_++ % every_ == 0 || task.anew;
    number_ = task.number, size_ = {frame.width, frame.height};
    task.preprocess = milliseconds(start, Clock::now());
    return task;
  }

  // Lanes take turns; one whose turn it is gets the frames of the others since its last one, and then runs.
  void start(std::size_t given, const FrameView& frame) {
    Lane& lane = *lanes_[given % parallel_];
    const std::size_t plane = spec().plane_size();
    const auto planes = [&](std::vector<float>& of) {
      return std::array<float*, 3>{of.data(), of.data() + plane, of.data() + 2 * plane};
    };
    lane.task = take(frame, std::numeric_limits<double>::quiet_NaN(), -1, planes(lane.planes));
    for (std::size_t age = std::min(given + 1, parallel_); age-- > 0;) {
      const std::array<float*, 3> from = planes(lanes_[(given - age) % parallel_]->planes), to = lane.stream->next();
      for (std::size_t channel = 0; channel < 3; ++channel) std::copy_n(from[channel], plane, to[channel]);
      if (age) lane.stream->push(false);
    }
    lane.done = std::async(std::launch::async, [this, &lane] {
      const auto begun = Clock::now();
      const float* raw = lane.stream->push(lane.task.asked);
      const auto inferred = Clock::now();
      if (lane.task.asked) decode(lane.decoder, raw, lane.task, lane.found);
      return Speed{0, milliseconds(begun, inferred), milliseconds(inferred, Clock::now()), 0};
    });
  }

  void decode(Decoder& decoder, const float* raw, const Task& task, Detections& found) const {
    try {
      decoder.detect(raw, task.width, task.height, confidence_, iou_, found, keep_);
    } catch (const ModelFileError& error) {
      throw ModelFileError(detail::text("frame ", task.number, ": ", error.what()));
    }
  }

  // The result of a task whose detections are there; in the order of frames.
  Result& finish(const Task& task, Speed speed) {
    const auto start = Clock::now();
    result_.frame_index = task.number, result_.timestamp = task.timestamp, result_.carried = !task.asked;
    result_.width = task.width, result_.height = task.height;
    result_.ended.clear();
    if (task.asked) {
      result_.ended = task.anew ? linker_.close() : linker_.finished();
      linker_.push(result_.detections, task.number);
      for (Tube& tube : linker_.finished()) result_.ended.push_back(std::move(tube));
    }
    speed.preprocess = task.preprocess, speed.link = milliseconds(start, Clock::now());
    result_.speed = speed;
    return result_;
  }

  std::unique_ptr<Backend> backend_;
  Preprocessor preprocess_;
  std::unique_ptr<FrameStream> stream_;
  CutDetector cuts_;
  bool find_cuts_ = false;
  Decoder decoder_;
  OnlineLinker linker_;
  double confidence_, iou_, keep_, decay_ = 0;
  int every_;
  std::size_t parallel_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::int64_t count_ = 0, number_ = -1;
  std::array<int, 2> size_{};  // of the last frame
  Result result_;
};

}  // namespace yowo
