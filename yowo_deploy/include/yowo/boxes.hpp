// Boxes, detections, tubes, IoU and suppression.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace yowo {

// Corners in pixels of the original frame, or in any one unit.
struct Box {
  float x1 = 0, y1 = 0, x2 = 0, y2 = 0;
};

inline Box cxcywh_to_xyxy(float cx, float cy, float w, float h) {
  return {cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2};
}

// What was found in one frame, best first; arrays of `size()` entries that belong together.
struct Detections {
  std::vector<Box> xyxy;                 // inside the frame
  std::vector<float> confidence;         // objectness times the best class probability
  std::vector<int> class_id;             // the best class
  std::vector<float> scores;             // (N, C), objectness times each class probability
  std::vector<std::int64_t> tracker_id;  // person ids; empty before linking
  std::vector<float> objectness;         // empty where only scores are known
  int classes = 0;

  std::size_t size() const { return xyxy.size(); }
  bool empty() const { return xyxy.empty(); }
  const float* scores_of(std::size_t row) const { return scores.data() + row * static_cast<std::size_t>(classes); }

  float objectness_of(std::size_t row) const { return objectness.empty() ? confidence[row] : objectness[row]; }

  // Ids of a box's best class, and of the others whose scores exceed the threshold, best first.
  std::vector<int> classes_above(std::size_t row, double threshold) const {
    std::vector<int> found;
    const float* of = scores_of(row);
    for (int each = 0; each < classes; ++each)
      if (each == class_id[row] || of[each] > static_cast<float>(threshold)) found.push_back(each);
    std::stable_sort(found.begin(), found.end(), [&](int one, int other) { return of[one] > of[other]; });
    return found;
  }

  // One more, whose best class follows from its scores.
  void append(const Box& box, float person, const float* of_classes) {
    const float* best = std::max_element(of_classes, of_classes + classes);
    xyxy.push_back(box), objectness.push_back(person), confidence.push_back(std::max(*best, 0.0f));
    class_id.push_back(static_cast<int>(best - of_classes));
    scores.insert(scores.end(), of_classes, of_classes + classes);
  }

  void clear() {
    xyxy.clear(), confidence.clear(), class_id.clear(), scores.clear(), tracker_id.clear(), objectness.clear();
  }
};

// One person doing one thing.
struct Tube {
  int class_id = 0;
  std::vector<std::int64_t> frames;  // from 0, ascending
  std::vector<Box> xyxy;
  double score = 1;                 // mean of `scores`
  std::vector<float> scores;        // of the class in each frame
  std::int64_t tracker_id = -1;     // person id; -1 where tubes are linked class by class
  std::vector<float> class_scores;  // mean score of every class; empty where the tube has one class alone

  std::size_t size() const { return frames.size(); }
};

// A product or sum rounded to its type before anything is done to it: no compiler may fuse it with what follows, as
// GCC does by default where the processor can, and numpy never.
template <class Number>
Number rounded(Number value) {
  volatile Number stored = value;
  return stored;
}

// Intersection over union; 0 for two boxes without area. Products of two differences of floats are exact in double,
// so that fused multiplication changes no bit.
inline double iou(const Box& one, const Box& other) {
  const auto side = [](float low, float high) {
    return std::max(static_cast<double>(high) - static_cast<double>(low), 0.0);
  };
  const double shared = side(std::max(one.x1, other.x1), std::min(one.x2, other.x2)) *
                        side(std::max(one.y1, other.y1), std::min(one.y2, other.y2));
  const double area = side(one.x1, one.x2) * side(one.y1, one.y2);
  const double united = area + side(other.x1, other.x2) * side(other.y1, other.y2) - shared;
  return united > 0 ? shared / united : 0.0;
}

// Indices of the boxes that survive greedy suppression, best first, written to `kept`.
//
// A box goes when it overlaps a better one by more than `iou_threshold`; ties keep the lower index. `order` is scratch.
// Neither allocates once their capacity is that of the boxes.
inline void nms(const std::vector<Box>& boxes, const std::vector<float>& scores, double iou_threshold,
                std::vector<std::size_t>& order, std::vector<std::size_t>& kept) {
  order.resize(boxes.size());
  for (std::size_t at = 0; at < order.size(); ++at) order[at] = at;
  std::sort(order.begin(), order.end(), [&](std::size_t one, std::size_t other) {
    return scores[one] != scores[other] ? scores[one] > scores[other] : one < other;
  });
  kept.clear();
  for (const std::size_t next : order) {
    const auto overlaps = [&](std::size_t better) { return iou(boxes[better], boxes[next]) > iou_threshold; };
    if (std::none_of(kept.begin(), kept.end(), overlaps)) kept.push_back(next);
  }
}

}  // namespace yowo
