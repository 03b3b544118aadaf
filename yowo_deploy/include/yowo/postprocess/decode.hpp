// Decode a network's raw output into detections.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "yowo/boxes.hpp"
#include "yowo/errors.hpp"
#include "yowo/spec.hpp"

namespace yowo {

// Decodes, thresholds and suppresses the outputs of one model. Allocates when it is made, and never after.
//
// x = (sigmoid(tx) + column) / columns, w = exp(tw) * anchor_w / columns, likewise in y. Suppression is class-agnostic
// and ordered by objectness alone, as in the release. For AVA's activation the threshold is on objectness, else on
// objectness times the best class probability.
class Decoder {
 public:
  // `spec` is one that `check` has passed.
  explicit Decoder(const ModelSpec& spec) : spec_(spec), exclusive_(static_cast<std::size_t>(spec.classes())) {
    apart_ = spec.class_activation == "softmax+sigmoid";
    if (apart_) exclusive_ = static_cast<std::size_t>(spec.softmax_classes);
    const std::size_t most = spec.anchors.size() * static_cast<std::size_t>(spec.cells());
    for (auto* numbers : {&logits_, &objectness_, &best_}) numbers->reserve(most);
    for (auto* indices : {&order_, &kept_}) indices->reserve(most);
    exponentials_.resize(exclusive_);
    boxes_.reserve(most);
    probabilities_.reserve(most * static_cast<std::size_t>(spec.classes()));
  }

  // Room for all that one frame can hold, so that `detect` allocates nothing.
  void reserve(Detections& found) const {
    found.classes = spec_.classes();
    for (auto* numbers : {&found.confidence, &found.objectness}) numbers->reserve(boxes_.capacity());
    found.xyxy.reserve(boxes_.capacity()), found.class_id.reserve(boxes_.capacity());
    found.scores.reserve(probabilities_.capacity());
  }

  // The detections of one output, (A * (5 + C), rows, columns), sorted by confidence; corners in pixels of the frame.
  // `iou` is the suppression threshold. With `keep`, every detection whose objectness exceeds it, whatever its score:
  // what a linker with hysteresis takes. Throws ModelFileError: the output holds NaN or infinity.
  void detect(const float* raw, int frame_width, int frame_height, double confidence, double iou, Detections& found,
              double keep = 0) {
    if (!std::all_of(raw, raw + spec_.output_size(), [](float value) { return std::isfinite(value); }))
      throw ModelFileError("the model's output has NaN or infinity: its weights or its input are damaged");
    collect(raw, static_cast<float>(keep > 0 ? keep : confidence), apart_ || keep > 0);
    nms(boxes_, logits_, iou, order_, kept_);
    std::sort(kept_.begin(), kept_.end(), [&](std::size_t one, std::size_t other) {
      if (best_[one] != best_[other]) return best_[one] > best_[other];
      return logits_[one] != logits_[other] ? logits_[one] > logits_[other] : one < other;
    });
    write(static_cast<float>(frame_width), static_cast<float>(frame_height), found);
  }

 private:
  // In double until the end, as in Python: so exponentials that differ by their last bit agree.
  static double sigmoid(float value) { return 1 / (1 + std::exp(-static_cast<double>(value))); }

  // Candidates above the threshold, by objectness or by their best score, in the order anchor, row, column. No score
  // exceeds its objectness: class probabilities are computed only where that is enough.
  void collect(const float* raw, float threshold, bool by_objectness) {
    const auto columns = static_cast<std::size_t>(spec_.columns()), cells = static_cast<std::size_t>(spec_.cells());
    boxes_.clear(), logits_.clear(), objectness_.clear(), best_.clear(), probabilities_.clear();
    for (const auto& anchor : spec_.anchors) {
      for (std::size_t cell = 0; cell < cells; ++cell) {
        const float logit = raw[4 * cells + cell], objectness = static_cast<float>(sigmoid(logit));
        if (!(objectness > threshold)) continue;
        const float best = append_scores(raw + 5 * cells + cell, cells, objectness);
        if (!by_objectness && !(best > threshold)) {
          probabilities_.resize(probabilities_.size() - static_cast<std::size_t>(spec_.classes()));
          continue;
        }
        logits_.push_back(logit);
        objectness_.push_back(objectness);
        best_.push_back(best);
        boxes_.push_back(box(raw + cell, cells, cell % columns, cell / columns, anchor));
      }
      raw += (5 + static_cast<std::size_t>(spec_.classes())) * cells;
    }
  }

  // exp(20) cells is far outside any frame, and stays finite where areas are multiplied.
  Box box(const float* values, std::size_t step, std::size_t column, std::size_t row,
          const std::array<double, 2>& anchor) const {
    const auto centre = [&](std::size_t side, std::size_t place, int places) {
      return static_cast<float>((sigmoid(values[side * step]) + static_cast<double>(place)) / places);
    };
    const auto size = [&](std::size_t side, int places) {
      const double grown = std::exp(std::min(static_cast<double>(values[(2 + side) * step]), 20.0));
      return static_cast<float>(grown * (anchor[side] / places));
    };
    return cxcywh_to_xyxy(centre(0, column, spec_.columns()), centre(1, row, spec_.rows()), size(0, spec_.columns()),
                          size(1, spec_.rows()));
  }

  // Objectness times each class probability, behind those of the candidates before; returns the best.
  float append_scores(const float* logits, std::size_t step, float objectness) {
    const std::size_t start = probabilities_.size(), classes = static_cast<std::size_t>(spec_.classes());
    double highest = -INFINITY, sum = 0;
    const auto logit = [&](std::size_t at) { return static_cast<double>(logits[at * step]); };
    for (std::size_t at = 0; at < exclusive_; ++at) highest = std::max(highest, logit(at));
    for (std::size_t at = 0; at < exclusive_; ++at) sum += exponentials_[at] = std::exp(logit(at) - highest);
    float best = 0;
    for (std::size_t at = 0; at < classes; ++at) {
      const double probability = at < exclusive_ ? exponentials_[at] / sum : sigmoid(logits[at * step]);
      probabilities_.push_back(objectness * static_cast<float>(probability));
      best = std::max(best, probabilities_[start + at]);
    }
    return best;
  }

  void write(float width, float height, Detections& found) const {
    const auto classes = static_cast<std::size_t>(spec_.classes());
    const auto inside = [](float value, float extent) { return std::clamp(value, 0.0f, 1.0f) * extent; };
    found.clear();
    found.classes = spec_.classes();
    for (const std::size_t row : kept_) {
      const Box& box = boxes_[row];
      found.append({inside(box.x1, width), inside(box.y1, height), inside(box.x2, width), inside(box.y2, height)},
                   objectness_[row], probabilities_.data() + row * classes);
    }
  }

  ModelSpec spec_;
  std::size_t exclusive_;  // classes of which one is right: softmax; the others have a sigmoid each
  bool apart_ = false;
  std::vector<Box> boxes_;
  std::vector<float> logits_, objectness_, best_, probabilities_;
  std::vector<double> exponentials_;
  std::vector<std::size_t> order_, kept_;
};

}  // namespace yowo
