// Detect hard cuts between frames.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "yowo/preprocess/frames.hpp"

namespace yowo {

// Compares each frame with the one before: pixels on a grid, and a histogram of their colours. The answers of
// `preprocess/cuts.py`, which says where the figures come from. Allocates where the grid grows.
class CutDetector {
 public:
  // Whether the scene of this frame, which `FrameView::check` has passed, is another than that of the last; false for
  // the first one.
  bool push(const FrameView& frame) {
    const int across = std::max(1, frame.width / side), down = std::max(1, frame.height / side);
    const std::array<int, 2> size{(frame.width - 1) / across + 1, (frame.height - 1) / down + 1};
    const std::int64_t count = std::int64_t{size[0]} * size[1];
    const bool comparable = size == size_ && count >= fewest;
    size_ = size;
    grid_.resize(static_cast<std::size_t>(3 * count));
    Histogram colours{};
    std::int64_t pixels = 0, moved = 0;
    auto before = grid_.begin();
    for (int y = 0; y < frame.height; y += down)
      for (int x = 0; x < frame.width; x += across) {
        std::size_t colour = 0;
        for (int channel = 0; channel < 3; ++channel, ++before) {
          const std::uint8_t value = frame.row(y)[3 * x + channel];
          pixels += std::abs(value - *before);
          colour = colour * levels + value * std::size_t{levels} / 256;
          *before = value;
        }
        ++colours[colour];
      }
    for (std::size_t each = 0; each < colours.size(); ++each) moved += std::abs(colours[each] - colours_[each]);
    colours_ = colours;
    return comparable && static_cast<double>(pixels) / static_cast<double>(3 * count) > 20.0 &&
           static_cast<double>(moved) / static_cast<double>(2 * count) > 0.11;
  }

  // Forget the last frame.
  void reset() { size_ = {}; }

 private:
  static constexpr int side = 48, fewest = 1024, levels = 4;
  using Histogram = std::array<std::int64_t, levels * levels * levels>;

  std::array<int, 2> size_{};
  std::vector<std::uint8_t> grid_;
  Histogram colours_{};
};

}  // namespace yowo
