// The newest frames, always ready as one contiguous clip. Knows nothing of where frames come from or go.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "yowo/spec.hpp"

namespace yowo {

// A mirrored ring whose view is a whole clip, (3, T, H, W) without gaps, so that engines read it in place.
//
// The clip's window moves on by one plane a frame. Frame k of channel c then always lies at plane c * T + k, whatever the
// window: where channel c + 1 has its oldest frame, which leaves, channel c gets its newest. So a frame is written to
// three places, and to their mirrors. Frames that are `frame_stride` apart share a ring; there are that many rings.
//
// What lies before the first frame is filled with it (the spec's start rule "repeat").
class ClipBuffer {
 public:
  explicit ClipBuffer(const ModelSpec& spec)
      : plane_(spec.plane_size()), length_(static_cast<std::size_t>(spec.clip_length)), rings_(static_cast<std::size_t>(spec.frame_stride)) {
    memory_.resize(rings_ * ring_size() + alignment / sizeof(float));
  }

  ClipBuffer(ClipBuffer&&) = default;  // never copied: where the rings begin depends on the memory's address

  // Take the next frame, (3, H, W); returns the clip that ends with it, valid until the next push.
  const float* push(const float* planes) {
    const bool first = count_ == 0;
    for (std::size_t ring = 0; first && ring < rings_; ++ring)
      for (std::size_t slot = 0; slot < 6 * length_; ++slot)
        std::copy_n(planes + slot / length_ % 3 * plane_, plane_, at(ring, slot));
    const std::size_t ring = count_ % rings_, step = count_ / rings_ % (3 * length_);
    ++count_;
    if (first) return at(ring, 0);
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const std::size_t slot = (step + (channel + 1) * length_ - 1) % (3 * length_);
      std::copy_n(planes + channel * plane_, plane_, at(ring, slot));
      std::copy_n(planes + channel * plane_, plane_, at(ring, slot + 3 * length_));
    }
    return at(ring, step);
  }

  // Forget every frame: the next push is the first of a new video.
  void reset() { count_ = 0; }

 private:
  static constexpr std::size_t alignment = 64;

  std::size_t ring_size() const { return 6 * length_ * plane_; }

  float* at(std::size_t ring, std::size_t slot) {
    void* start = memory_.data();
    std::size_t space = memory_.size() * sizeof(float);
    float* aligned = static_cast<float*>(std::align(alignment, rings_ * ring_size() * sizeof(float), start, space));
    return aligned + ring * ring_size() + slot * plane_;
  }

  std::size_t plane_, length_, rings_, count_ = 0;
  std::vector<float> memory_;
};

}  // namespace yowo
