// The online linker: detections of each frame to people and their tubes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <list>
#include <utility>
#include <vector>

#include "yowo/boxes.hpp"
#include "yowo/errors.hpp"

namespace yowo {

// What is remembered of one person. A row is a box and the scores of all classes, in double as in Python.
class Track {
 public:
  std::int64_t tracker_id() const { return tracker_id_; }
  std::int64_t first_frame() const {
    return last_frame_ + 1 - static_cast<std::int64_t>(rows());
  }  // that is remembered
  std::int64_t last_frame() const { return last_frame_; }
  Box xyxy() const { return box_of(rows() - 1); }

  // Mean score of a class over the whole life.
  double mean(std::size_t class_id) const { return sums_[class_id] / static_cast<double>(life_); }

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
    made.class_id = class_id();
    made.score = score();
    made.tracker_id = tracker_id_;
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

  void begin(std::int64_t tracker_id, std::size_t classes) {
    tracker_id_ = tracker_id, classes_ = classes, life_ = 0, room_ = 16;
    values_.clear();
    sums_.assign(classes, 0.0);
    row_.resize(width());
    before_.resize(width());
  }

  // The next box; frames between it and the last are filled on a straight line.
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
  }

  // Twice the room for the newest rows, of which `memory` stay at most.
  void forget(std::size_t memory) {
    const std::size_t kept = std::min(rows(), memory);
    values_.erase(values_.begin(), values_.begin() + static_cast<std::ptrdiff_t>((rows() - kept) * width()));
    room_ = 2 * kept;
  }

  std::int64_t tracker_id_ = 0, last_frame_ = 0;
  std::size_t classes_ = 0, life_ = 0, room_ = 16;
  std::vector<double> values_, sums_, row_, before_;
};

// Follows people while the video runs: every frame's detections in, the tracks that are alive out.
//
// A person keeps one id, whatever the class of the moment. Causal: what is pushed later changes nothing that was said.
// Allocates when more people are tracked at once than ever before, and when the memory of one doubles.
class OnlineLinker {
 public:
  // `patience`, `min_iou`, `memory`, `alpha`: see `postprocess/linker.py`. Throws InputError: a negative patience, or
  // no memory.
  explicit OnlineLinker(int patience = 5, double min_iou = 0.2, int memory = 1000, double alpha = 0.5)
      : patience_(patience), memory_(static_cast<std::size_t>(std::max(memory, 1))), min_iou_(min_iou), alpha_(alpha) {
    if (patience < 0 || memory < 1)
      throw InputError(
          detail::text("patience ", patience, " and memory ", memory, ": expected at least 0 and 1 frames"));
  }

  // Take the next frame's detections, whose `tracker_id` is filled in; returns the tracks that have a box in it, oldest
  // first, valid until the next call. Python gives tubes here; `Track::tube` makes one. Throws InputError: detections
  // of another number of classes than those before.
  const std::vector<const Track*>& push(Detections& detections) {
    match(detections);
    seen_.clear();
    detections.tracker_id.clear();
    for (std::size_t row = 0; row < detections.size(); ++row) {
      Track& person = going_on_[row] ? *going_on_[row] : welcome(static_cast<std::size_t>(detections.classes));
      person.append(frame_, detections.xyxy[row], detections.scores_of(row), memory_);
      seen_.push_back(&person);
      detections.tracker_id.push_back(person.tracker_id_);
    }
    end([&](const Track& person) { return frame_ - person.last_frame_ > patience_; });
    ++frame_;
    std::sort(seen_.begin(), seen_.end(),
              [](const Track* one, const Track* other) { return one->tracker_id_ < other->tracker_id_; });
    return seen_;
  }

  // The tubes that have ended since the last call, each once.
  std::vector<Tube> finished() { return std::exchange(ended_, {}); }

  // End every tube, then `finished`.
  std::vector<Tube> close() {
    end([](const Track&) { return true; });
    return finished();
  }

 private:
  struct Link {
    double strength;
    std::size_t order;
    Track* person;
    std::size_t row;
  };

  Track& welcome(std::size_t classes) {
    if (spare_.empty()) spare_.emplace_back();
    alive_.splice(alive_.end(), spare_, spare_.begin());
    alive_.back().begin(next_id_++, classes);
    return alive_.back();
  }

  template <class Over>
  void end(const Over& over) {
    for (auto person = alive_.begin(); person != alive_.end();) {
      const auto next = std::next(person);
      if (over(*person)) {
        ended_.push_back(person->tube());
        spare_.splice(spare_.end(), alive_, person);
      }
      person = next;
    }
  }

  // The person who goes on with each row, where there is one; the strongest links first.
  void match(const Detections& detections) {
    going_on_.assign(detections.size(), nullptr);
    links_.clear();
    for (Track& person : alive_) {
      if (!detections.empty() && person.classes_ != static_cast<std::size_t>(detections.classes))
        throw InputError(
            detail::text("detections have ", detections.classes, " classes, those before had ", person.classes_));
      for (std::size_t row = 0; row < detections.size(); ++row)
        if (const double overlap = iou(person.xyxy(), detections.xyxy[row]); overlap >= min_iou_)
          links_.push_back(
              {strength(person, detections.scores_of(row)) + rounded(1e-3 * overlap), links_.size(), &person, row});
    }
    std::sort(links_.begin(), links_.end(), [](const Link& one, const Link& other) {
      return one.strength != other.strength ? one.strength > other.strength : one.order < other.order;
    });
    busy_.clear();
    for (const Link& link : links_) {
      if (going_on_[link.row] || std::find(busy_.begin(), busy_.end(), link.person) != busy_.end()) continue;
      going_on_[link.row] = link.person;
      busy_.push_back(link.person);
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

  std::int64_t patience_, frame_ = 0, next_id_ = 0;
  std::size_t memory_;
  double min_iou_, alpha_;
  std::list<Track> alive_, spare_;
  std::vector<const Track*> seen_;
  std::vector<Track*> going_on_, busy_;
  std::vector<Link> links_;
  std::vector<Tube> ended_;
};

}  // namespace yowo
