// Link detections into tubes while the video runs, with class scores averaged along each tube.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <list>
#include <utility>
#include <vector>

#include "yowo/boxes.hpp"
#include "yowo/errors.hpp"

namespace yowo {

// Share of the box before, a frame later, and weight of a frame's class probabilities, a frame later; where the
// figures come from, see `postprocess/linker.py`.
constexpr double box_inertia = 0.5, default_tube_decay = 0.97;

// One person, with the boxes shown. A row is a box and the scores of all classes, in double as in Python.
class Track {
 public:
  std::int64_t tracker_id() const { return tracker_id_; }  // -1 while the person has not appeared
  // The first and last frame that is remembered.
  std::int64_t first_frame() const { return last_frame_ + 1 - static_cast<std::int64_t>(rows()); }
  std::int64_t last_frame() const { return last_frame_; }
  Box xyxy() const { return box_of(rows() - 1); }

  // Mean score of a class over all frames shown; before the first of them the newest score.
  double mean(std::size_t class_id) const {
    return life_ ? sums_[class_id] / static_cast<double>(life_) : seen_scores_[class_id];
  }

  // The class that suits the track best.
  int class_id() const {
    std::size_t best = 0;
    for (std::size_t each = 1; each < classes_; ++each)
      if (mean(each) > mean(best)) best = each;
    return static_cast<int>(best);
  }

  double score() const { return mean(static_cast<std::size_t>(class_id())); }

  // What is remembered, as a tube of the class that suits it best.
  Tube tube() const {
    Tube made;
    made.class_id = class_id(), made.score = score(), made.tracker_id = tracker_id_;
    for (std::size_t row = 0; row < rows(); ++row) {
      made.frames.push_back(first_frame() + static_cast<std::int64_t>(row));
      made.xyxy.push_back(box_of(row));
      made.scores.push_back(static_cast<float>(values_[row * width() + 4 + static_cast<std::size_t>(made.class_id)]));
    }
    for (std::size_t each = 0; each < classes_; ++each) made.class_scores.push_back(static_cast<float>(mean(each)));
    return made;
  }

 private:
  friend class OnlineLinker;

  std::size_t width() const { return 4 + classes_; }
  std::size_t rows() const { return values_.size() / width(); }

  Box box_of(std::size_t row) const {
    const double* at = values_.data() + row * width();
    return {static_cast<float>(at[0]), static_cast<float>(at[1]), static_cast<float>(at[2]), static_cast<float>(at[3])};
  }

  void begin(std::size_t classes) {
    tracker_id_ = -1, classes_ = classes, shown_ = 0, life_ = 0, room_ = 16;
    seen_frame_ = 0, weight_ = 0, box_ = Box();
    values_.clear(), sums_.assign(classes, 0.0), weighted_.assign(classes, 0.0);
    row_.resize(width()), before_.resize(width());
  }

  // Take the next detection, shown or not.
  void see(const Box& xyxy, const float* scores, std::int64_t push) {
    seen_xyxy_ = xyxy, seen_push_ = push;
    seen_scores_.assign(scores, scores + classes_);
  }

  // Average the detection's scores with those before, and move its box from where it was shown last; in Python's types
  // and order.
  void average(Detections& found, std::size_t row, std::int64_t frame, double decay) {
    const double age = static_cast<double>(frame - seen_frame_), faded = std::pow(decay, age);
    const double objectness = found.objectness_of(row), inertia = std::pow(box_inertia, age);
    float* scores = found.scores.data() + row * classes_;
    weight_ = rounded(faded * weight_) + objectness;
    for (std::size_t each = 0; each < classes_; ++each) {
      weighted_[each] = rounded(faded * weighted_[each]) + scores[each];
      const double probability = weight_ != 0 ? weighted_[each] / weight_ : weighted_[each];
      scores[each] = static_cast<float>(objectness * probability);
    }
    found.confidence[row] = std::max(*std::max_element(scores, scores + classes_), 0.0f);
    Box& xyxy = found.xyxy[row];
    if (box_.x1 != 0 || box_.y1 != 0 || box_.x2 != 0 || box_.y2 != 0)  // else it is the first, and shown exactly
      for (float Box::*side : {&Box::x1, &Box::y1, &Box::x2, &Box::y2})
        xyxy.*side =
            rounded(static_cast<float>(inertia) * box_.*side) + rounded(static_cast<float>(1 - inertia) * xyxy.*side);
    box_ = xyxy, seen_frame_ = frame;
  }

  // The next box shown; frames between it and the last are filled on a straight line.
  void append(std::int64_t frame, const Box& box, const float* scores, std::size_t memory) {
    const double corners[] = {box.x1, box.y1, box.x2, box.y2};
    std::copy_n(corners, 4, row_.begin());
    std::copy_n(scores, classes_, row_.begin() + 4);
    const auto steps = life_ ? std::max<std::int64_t>(1, frame - last_frame_) : 1;
    std::copy_n(life_ ? values_.end() - static_cast<std::ptrdiff_t>(width()) : row_.begin(), width(), before_.begin());
    for (std::int64_t step = 1; step <= steps; ++step) {
      if (rows() == room_) forget(memory);
      for (std::size_t at = 0; at < width(); ++at) {
        const double share = static_cast<double>(step) / static_cast<double>(steps);
        values_.push_back(before_[at] + rounded((row_[at] - before_[at]) * share));
        if (at >= 4) sums_[at - 4] += values_.back();
      }
      ++life_;
    }
    last_frame_ = frame;
    ++shown_;
  }

  // Twice the room for the newest rows, of which `memory` stay at most.
  void forget(std::size_t memory) {
    const std::size_t kept = std::min(rows(), memory);
    values_.erase(values_.begin(), values_.begin() + static_cast<std::ptrdiff_t>((rows() - kept) * width()));
    room_ = 2 * kept;
  }

  std::int64_t tracker_id_ = -1, last_frame_ = 0, seen_frame_ = 0, seen_push_ = 0, shown_ = 0;
  std::size_t classes_ = 0, life_ = 0, room_ = 16;
  Box seen_xyxy_, box_;  // as detected, and as shown
  double weight_ = 0;    // decayed sums of objectness, and of class scores
  std::vector<double> weighted_, values_, sums_, row_, before_;
  std::vector<float> seen_scores_;
};

// Follows people while the video runs: every frame's detections in, those that are shown and their tracks out.
//
// Causal: later frames change nothing that was given out. With `decay`, class scores are averaged along tubes and boxes
// move half way; with `appear` and `keep`, boxes have hysteresis: see `postprocess/linker.py`, of which this gives the
// answers to the bit. Allocates when more people are followed at once than ever before, and when the memory of one
// doubles.
class OnlineLinker {
 public:
  // As in Python; a negative `keep` stands for None there.
  // Throws InputError: a negative patience, no memory, or a decay outside 0 to 1.
  explicit OnlineLinker(int patience = 5, double min_iou = 0.2, int memory = 1000, double alpha = 0.5, int max_gap = 50,
                        int min_frames = 1, double decay = 0, double appear = -1, double keep = -1)
      : patience_(patience),
        max_gap_(max_gap),
        min_frames_(min_frames),
        memory_(static_cast<std::size_t>(std::max(memory, 1))),
        min_iou_(min_iou),
        alpha_(alpha),
        decay_(decay),
        appear_(static_cast<float>(appear)),
        keep_(static_cast<float>(keep)) {
    if (patience < 0 || memory < 1)
      throw InputError(
          detail::text("patience ", patience, " and memory ", memory, ": expected at least 0 and 1 frames"));
    if (!(decay >= 0 && decay <= 1)) throw InputError(detail::text("decay is ", decay, ", expected 0 to 1"));
  }

  // Take the next frame's detections, all whose objectness exceeds `keep`, and leave those that are shown, with
  // `tracker_id`, and with averaged scores best first. Returns the tracks that have a box in the frame, oldest first,
  // valid until the next call. Python gives tubes here; `Track::tube` makes one. `frame` is its number, larger than the
  // one before; by default the next one.
  // Throws InputError: the number is not larger, or there are detections of another number of classes.
  const std::vector<const Track*>& push(Detections& detections, std::int64_t frame = -1) {
    const std::int64_t number = frame < 0 ? frame_ + 1 : frame;
    if (number <= frame_)
      throw InputError(
          detail::text("frame ", number, " comes after frame ", frame_, ": begin a new video with a new linker"));
    if (number - frame_ - 1 > max_gap_) end([](const Track&) { return true; });
    match(detections);
    frame_ = number, ++pushes_;
    order_.clear();
    for (std::size_t row = 0; row < detections.size(); ++row) {
      order_.push_back(row);
      Track*& person = people_[row];
      if (!person) person = &welcome(static_cast<std::size_t>(detections.classes));
      person->see(detections.xyxy[row], detections.scores_of(row), pushes_);
      if (decay_ > 0) person->average(detections, row, frame_, decay_);
    }
    if (decay_ > 0)
      std::sort(order_.begin(), order_.end(), [&](std::size_t one, std::size_t other) {
        const float first = detections.confidence[one], second = detections.confidence[other];
        return first != second ? first > second : one < other;
      });
    show(detections);
    end([&](const Track& person) { return pushes_ - person.seen_push_ > patience_; });
    std::sort(tracks_.begin(), tracks_.end(),
              [](const Track* one, const Track* other) { return one->tracker_id_ < other->tracker_id_; });
    return tracks_;
  }

  // What the last push returned.
  const std::vector<const Track*>& tracks() const { return tracks_; }

  // The tubes that have ended since the last call, each once.
  std::vector<Tube> finished() { return std::exchange(ended_, {}); }

  // End every tube, then `finished`.
  std::vector<Tube> close() {
    tracks_.clear();
    end([](const Track&) { return true; });
    return finished();
  }

 private:
  struct Link {
    double strength;
    std::size_t order, row;
    Track* person;
  };

  Track& welcome(std::size_t classes) {
    if (spare_.empty()) spare_.emplace_back();
    alive_.splice(alive_.end(), spare_, spare_.begin());
    alive_.back().begin(classes);
    return alive_.back();
  }

  template <class Over>
  void end(const Over& over) {
    for (auto person = alive_.begin(); person != alive_.end();) {
      const auto next = std::next(person);
      if (over(*person)) {
        if (person->tracker_id_ >= 0 && person->shown_ >= min_frames_) ended_.push_back(person->tube());
        spare_.splice(spare_.end(), alive_, person);
      }
      person = next;
    }
  }

  // Leaves what is shown of the detections, in the order of `order_`, and their tracks.
  void show(Detections& detections) {
    tracks_.clear(), shown_.clear();
    shown_.classes = detections.classes;
    for (const std::size_t row : order_) {
      Track& person = *people_[row];
      const bool appears = detections.confidence[row] > appear_;
      const float objectness = detections.objectness_of(row), *scores = detections.scores_of(row);
      if (appears && person.tracker_id_ < 0) person.tracker_id_ = next_id_++;
      if (!(keep_ < 0 ? appears : person.tracker_id_ >= 0 && objectness > keep_)) continue;
      person.append(frame_, detections.xyxy[row], scores, memory_);
      tracks_.push_back(&person);
      shown_.append(detections.xyxy[row], objectness, scores);
      shown_.tracker_id.push_back(person.tracker_id_);
    }
    if (detections.objectness.empty()) shown_.objectness.clear();
    detections = shown_;
  }

  // The person who goes on with each row, where there is one; the strongest links first.
  void match(const Detections& detections) {
    people_.assign(detections.size(), nullptr);
    links_.clear();
    for (Track& person : alive_) {
      if (!detections.empty() && person.classes_ != static_cast<std::size_t>(detections.classes))
        throw InputError(
            detail::text("detections have ", detections.classes, " classes, those before had ", person.classes_));
      for (std::size_t row = 0; row < detections.size(); ++row)
        if (const double overlap = iou(person.seen_xyxy_, detections.xyxy[row]); overlap >= min_iou_)
          links_.push_back(
              {strength(person, detections.scores_of(row)) + rounded(1e-3 * overlap), links_.size(), row, &person});
    }
    std::sort(links_.begin(), links_.end(), [](const Link& one, const Link& other) {
      return one.strength != other.strength ? one.strength > other.strength : one.order < other.order;
    });
    for (const Link& link : links_) {
      if (people_[link.row] || link.person->seen_push_ > pushes_) continue;
      people_[link.row] = link.person;
      link.person->seen_push_ = pushes_ + 1;  // of the push that begins
    }
  }

  // Of the class that links them best (equation 12 without the overlap, which decides a tie).
  double strength(const Track& person, const float* scores) const {
    double best = -1;
    for (std::size_t each = 0; each < person.classes_; ++each) {
      const double before = person.mean(each), now = scores[each];
      best = std::max(best, before + now + rounded(alpha_ * before * now));
    }
    return best;
  }

  std::int64_t patience_, max_gap_, min_frames_, frame_ = -1, pushes_ = 0, next_id_ = 0;
  std::size_t memory_;
  double min_iou_, alpha_, decay_;
  float appear_, keep_;  // compared in single precision, as in Python
  std::list<Track> alive_, spare_;
  std::vector<const Track*> tracks_;
  std::vector<Track*> people_;  // of each row
  std::vector<std::size_t> order_;
  Detections shown_;
  std::vector<Link> links_;
  std::vector<Tube> ended_;
};

}  // namespace yowo
