// From detections of frames to the action tubes of a whole video; `OnlineLinker` does it while the video runs.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "yowo/boxes.hpp"
#include "yowo/postprocess/linker.hpp"

namespace yowo {

// How boxes become tubes; `yowo_deploy/postprocess/tubes.py` says what each number means.
struct LinkRule {
  float alpha = 0.5f;
  float beta = 1.0f;
  bool gate = true;
  int max_gap = 5;
  std::optional<std::size_t> max_tubes;
  std::optional<double> trim;
  double trim_score = 0.1;
  double nms_iou = 0.3;
  bool fill_frames = false;

  // The release's.
  static LinkRule release() {
    LinkRule rule;
    rule.gate = false, rule.max_tubes = 3, rule.fill_frames = true;
    return rule;
  }
};

// Mean IoU over the frames that both have, times their share of all frames that either has.
inline double tube_iou(const Tube& one, const Tube& other) {
  double sum = 0;
  std::size_t shared = 0;
  for (std::size_t row = 0, other_row = 0; row < one.size() && other_row < other.size();) {
    if (one.frames[row] != other.frames[other_row]) {
      ++(one.frames[row] < other.frames[other_row] ? row : other_row);
      continue;
    }
    sum += iou(one.xyxy[row++], other.xyxy[other_row++]);
    ++shared;
  }
  if (!shared) return 0;
  const auto count = static_cast<double>(shared);
  return sum / count * count / static_cast<double>(one.size() + other.size() - shared);
}

// The tubes that overlap no better one by more than this, best first.
inline std::vector<Tube> tube_nms(std::vector<Tube> tubes, double iou_threshold) {
  std::stable_sort(tubes.begin(), tubes.end(),
                   [](const Tube& one, const Tube& other) { return one.score > other.score; });
  std::vector<Tube> kept;
  for (Tube& tube : tubes) {
    const auto overlaps = [&](const Tube& better) { return tube_iou(tube, better) > iou_threshold; };
    if (std::none_of(kept.begin(), kept.end(), overlaps)) kept.push_back(std::move(tube));
  }
  return kept;
}

namespace detail {

constexpr float gone = -std::numeric_limits<float>::infinity();  // the score where there is no box, or no longer

// (F, N) boxes and scores of one class; a frame with fewer than N boxes has scores `gone`.
struct Padded {
  std::size_t most = 0;
  std::vector<Box> boxes;
  std::vector<float> scores;

  bool has(std::size_t frame) const {
    const float* row = scores.data() + frame * most;
    return std::any_of(row, row + most, [](float score) { return std::isfinite(score); });
  }
};

// Frames in a row and how strongly the boxes of neighbours are linked. Sums run from both ends to the middle, as in
// Python, so that they are rounded alike.
class Chain {
 public:
  Chain(std::vector<std::size_t> frames, const Padded& all, const LinkRule& rule)
      : frames_(std::move(frames)), most_(all.most) {
    const std::size_t steps = frames_.size() / 2;
    links_.resize(2 * steps * most_ * most_);
    for (std::size_t side = 0; side < 2; ++side)
      for (std::size_t step = 0; step < steps; ++step)
        for (std::size_t now = 0; now < most_; ++now)
          for (std::size_t then = 0; then < most_; ++then)
            links_[place(side, step, now, then)] =
                repeated(side, step)
                    ? (now == then ? 0.0f : gone)
                    : strength(all, row(side, step) * most_ + now, row(side, step + 1) * most_ + then, rule);
  }

  const std::vector<std::size_t>& frames() const { return frames_; }

  // The box of each frame on the path with the greatest sum of links (Viterbi). A frame on its own has no links: there
  // it is the best score.
  std::pair<float, std::vector<std::size_t>> strongest_path(const Padded& all) const {
    const std::size_t steps = frames_.size() / 2;
    std::array<std::vector<float>, 2> reached;  // the best sum up to each box, (steps + 1, N)
    for (std::size_t side = 0; side < 2; ++side) {
      for (std::size_t step = 0; step <= steps; ++step)
        for (std::size_t box = 0; box < most_; ++box) {
          const bool there = std::isfinite(all.scores[row(side, step) * most_ + box]);
          reached[side].push_back((there ? 0.0f : gone) +
                                  (step ? best(side, step - 1, box, reached[side]).first : 0.0f));
        }
    }
    float highest = gone;
    std::size_t meeting = 0;
    for (std::size_t box = 0; box < most_; ++box) {
      const float sum = steps ? reached[0][steps * most_ + box] + reached[1][steps * most_ + box]
                              : all.scores[row(0, 0) * most_ + box];
      if (sum > highest) highest = sum, meeting = box;
    }
    std::vector<std::size_t> path(frames_.size());
    for (std::size_t side = 2; side-- > 0;) {
      std::size_t box = meeting;
      for (std::size_t step = steps; step > 0; --step) {
        path[walk(side, step)] = box;
        box = best(side, step - 1, box, reached[side]).second;
      }
      path[walk(side, 0)] = box;
    }
    return {highest, path};
  }

 private:
  std::size_t place(std::size_t side, std::size_t step, std::size_t now, std::size_t then) const {
    return ((step * 2 + side) * most_ + then) * most_ + now;
  }

  // Index into the frames: from the first, and from the last, to the one in the middle. Where the number of frames is
  // even, the first is there twice, linked to itself.
  std::size_t walk(std::size_t side, std::size_t step) const {
    const std::size_t even = frames_.size() % 2 == 0;
    return side ? frames_.size() - 1 - step : step - (step ? even : 0);
  }
  std::size_t row(std::size_t side, std::size_t step) const { return frames_[walk(side, step)]; }
  bool repeated(std::size_t side, std::size_t step) const { return !side && !step && frames_.size() % 2 == 0; }

  static float strength(const Padded& all, std::size_t now, std::size_t then, const LinkRule& rule) {
    const Box &one = all.boxes[now], &other = all.boxes[then];
    const auto score = [&](std::size_t at) { return std::isfinite(all.scores[at]) ? all.scores[at] : 0.0f; };
    const auto area = [](const Box& box) { return (box.x2 - box.x1) * (box.y2 - box.y1); };
    const float shared = std::max(std::min(one.x2, other.x2) - std::max(one.x1, other.x1), 0.0f) *
                         std::max(std::min(one.y2, other.y2) - std::max(one.y1, other.y1), 0.0f);
    const float united = area(one) + area(other) - shared;
    const float scores = score(now) * (1 + rule.alpha * score(then)) + score(then);
    return rule.gate && !(shared > 0) ? 0.0f : scores + rule.beta * shared / std::max(united, 1e-9f);
  }

  // The greatest sum of a link into box `then` of the next step, and the first box that it comes from.
  std::pair<float, std::size_t> best(std::size_t side, std::size_t step, std::size_t then,
                                     const std::vector<float>& reached) const {
    std::pair<float, std::size_t> found{gone, 0};
    for (std::size_t now = 0; now < most_; ++now) {
      const float sum = links_[place(side, step, now, then)] + reached[step * most_ + now];
      if (sum > found.first) found = {sum, now};
    }
    return found;
  }

  std::vector<std::size_t> frames_;
  std::size_t most_;
  std::vector<float> links_;
};

// Those of the frames that still have boxes, cut where too many in a row have none.
inline std::vector<std::vector<std::size_t>> runs(const Padded& left, const std::vector<std::size_t>& frames,
                                                  const LinkRule& rule) {
  std::vector<std::vector<std::size_t>> found;
  for (const std::size_t frame : frames) {
    if (!left.has(frame)) {
      if (rule.fill_frames) return {};
      continue;
    }
    if (found.empty() || static_cast<std::int64_t>(frame - found.back().back()) > rule.max_gap + 1)
      found.emplace_back();
    found.back().push_back(frame);
  }
  return found;
}

// Boxes and scores in the frames between, on a straight line.
inline Tube without_gaps(const Tube& tube) {
  Tube filled = tube;
  filled.frames.clear(), filled.xyxy.clear(), filled.scores.clear();
  for (std::size_t row = 0; row < tube.size(); ++row) {
    const std::size_t next = std::min(row + 1, tube.size() - 1);
    const auto gap = std::max<std::int64_t>(1, tube.frames[next] - tube.frames[row]);
    for (std::int64_t step = 0; step < gap; ++step) {
      const auto between = [&](float from, float to) {  // as numpy.interp has it
        const double slope = (static_cast<double>(to) - static_cast<double>(from)) / static_cast<double>(gap);
        return static_cast<float>(slope * static_cast<double>(step) + static_cast<double>(from));
      };
      const Box &one = tube.xyxy[row], &other = tube.xyxy[next];
      filled.frames.push_back(tube.frames[row] + step);
      filled.xyxy.push_back(
          {between(one.x1, other.x1), between(one.y1, other.y1), between(one.x2, other.x2), between(one.y2, other.y2)});
      filled.scores.push_back(between(tube.scores[row], tube.scores[next]));
    }
  }
  return filled;
}

// Rows [first, end) of a tube.
inline Tube rows_of(const Tube& tube, std::size_t first, std::size_t end) {
  const auto from = static_cast<std::ptrdiff_t>(first), to = static_cast<std::ptrdiff_t>(end);
  Tube part;
  part.class_id = tube.class_id;
  part.frames.assign(tube.frames.begin() + from, tube.frames.begin() + to);
  part.xyxy.assign(tube.xyxy.begin() + from, tube.xyxy.begin() + to);
  part.scores.assign(tube.scores.begin() + from, tube.scores.begin() + to);
  return part;
}

// Stretches that are labelled "acting", where gains minus costs of changes are greatest (two states).
inline std::vector<Tube> acting(const Tube& tube, double cost, double threshold) {
  double rest = 0, busy = 0;
  std::vector<std::array<bool, 2>> came;  // whether "rest", and "acting", came from acting
  for (const float score : tube.scores) {
    came.push_back({busy - cost > rest, busy >= rest - cost});
    const double rests = std::max(rest, busy - cost);
    busy = std::max(busy, rest - cost) + (static_cast<double>(score) - threshold);
    rest = rests;
  }
  std::vector<bool> labels(came.size());
  bool state = busy > rest;
  for (std::size_t row = came.size(); row-- > 0;) {
    labels[row] = state;
    state = came[row][state ? 1 : 0];
  }
  std::vector<Tube> parts;
  for (std::size_t row = 0, start = 0; row < labels.size(); ++row) {
    if (!labels[row]) start = row + 1;
    if (labels[row] && (row + 1 == labels.size() || !labels[row + 1])) parts.push_back(rows_of(tube, start, row + 1));
  }
  return parts;
}

// The tube, cut where consecutive boxes do not meet, without gaps, trimmed, scored.
inline void append_pieces(const Tube& tube, const LinkRule& rule, std::vector<Tube>& tubes) {
  for (std::size_t start = 0, row = 1; row <= tube.size(); ++row) {
    if (row < tube.size() && !(rule.gate && iou(tube.xyxy[row - 1], tube.xyxy[row]) <= 0)) continue;
    const Tube part = without_gaps(rows_of(tube, start, row));
    start = row;
    for (Tube& piece : rule.trim ? acting(part, *rule.trim, rule.trim_score) : std::vector<Tube>{part}) {
      double sum = 0;
      for (const float score : piece.scores) sum += static_cast<double>(score);
      piece.score = sum / static_cast<double>(piece.size());
      tubes.push_back(std::move(piece));
    }
  }
}

inline Padded padded(const std::vector<Detections>& frames, std::size_t class_id, bool fill_frames) {
  std::vector<const Detections*> sources;
  const auto heard = [&](const Detections& found, std::size_t row) { return found.scores_of(row)[class_id] > 0; };
  const auto count = [&](const Detections& found) {
    std::size_t rows = 0;
    for (std::size_t row = 0; row < found.size(); ++row) rows += heard(found, row);
    return rows;
  };
  Padded made;
  for (const Detections& found : frames) {
    made.most = std::max(made.most, count(found));
    sources.push_back(&found);
  }
  for (std::size_t frame = 1; fill_frames && frame < sources.size(); ++frame)
    if (!count(*sources[frame])) sources[frame] = sources[frame - 1];
  for (std::size_t frame = sources.size(); fill_frames && frame-- > 1;)
    if (!count(*sources[frame - 1])) sources[frame - 1] = sources[frame];
  made.boxes.resize(frames.size() * made.most);
  made.scores.assign(frames.size() * made.most, gone);
  for (std::size_t frame = 0; frame < sources.size(); ++frame) {
    std::size_t at = frame * made.most;
    for (std::size_t row = 0; row < sources[frame]->size(); ++row) {
      if (!heard(*sources[frame], row)) continue;
      made.boxes[at] = sources[frame]->xyxy[row];
      made.scores[at++] = sources[frame]->scores_of(row)[class_id];
    }
  }
  return made;
}

}  // namespace detail

// The tubes of one class, best first: the strongest path through the frames, again and again without its boxes.
inline std::vector<Tube> link_class(const std::vector<Detections>& frames, int class_id, const LinkRule& rule = {}) {
  detail::Padded left = detail::padded(frames, static_cast<std::size_t>(class_id), rule.fill_frames);
  if (!left.most) return {};
  struct Waiting {
    float strength;
    std::vector<std::size_t> path;
    detail::Chain chain;
  };
  std::vector<Waiting> waiting;
  const auto wait = [&](detail::Chain chain) {
    auto [strength, path] = chain.strongest_path(left);
    waiting.push_back({strength, std::move(path), std::move(chain)});
  };
  std::vector<std::size_t> all(frames.size());
  for (std::size_t frame = 0; frame < all.size(); ++frame) all[frame] = frame;
  for (auto& run : detail::runs(left, all, rule)) wait(detail::Chain(std::move(run), left, rule));
  std::vector<Tube> tubes;
  while (!waiting.empty() && !(rule.max_tubes && tubes.size() >= *rule.max_tubes)) {
    const auto strongest =
        std::max_element(waiting.begin(), waiting.end(),
                         [](const Waiting& one, const Waiting& other) { return one.strength < other.strength; });
    Waiting next = std::move(*strongest);
    waiting.erase(strongest);
    Tube tube;
    tube.class_id = class_id;
    for (std::size_t at = 0; at < next.path.size(); ++at) {
      const std::size_t frame = next.chain.frames()[at], place = frame * left.most + next.path[at];
      tube.frames.push_back(static_cast<std::int64_t>(frame));
      tube.xyxy.push_back(left.boxes[place]);
      tube.scores.push_back(std::exchange(left.scores[place], detail::gone));
    }
    detail::append_pieces(tube, rule, tubes);
    auto runs = detail::runs(left, next.chain.frames(), rule);
    if (runs.size() == 1 && runs[0].size() == next.chain.frames().size()) {
      wait(std::move(next.chain));
    } else {
      for (auto& run : runs) wait(detail::Chain(std::move(run), left, rule));
    }
  }
  if (rule.max_tubes && tubes.size() > *rule.max_tubes) tubes.resize(*rule.max_tubes);
  return tube_nms(std::move(tubes), rule.nms_iou);
}

// The tubes of a video, class by class, best first in each; a score of 0 keeps a box out of a class.
inline std::vector<Tube> link(const std::vector<Detections>& frames, const LinkRule& rule = {}) {
  std::vector<Tube> tubes;
  for (int class_id = 0; class_id < (frames.empty() ? 0 : frames[0].classes); ++class_id)
    for (Tube& tube : link_class(frames, class_id, rule)) tubes.push_back(std::move(tube));
  return tubes;
}

}  // namespace yowo
