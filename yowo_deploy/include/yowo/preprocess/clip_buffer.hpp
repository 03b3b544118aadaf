// The ring of the newest frames, always one contiguous clip.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "yowo/spec.hpp"

namespace yowo {

// A mirrored ring whose view is a whole clip, (3, T, H, W) without gaps, so that engines read it in place.
//
// The clip's window moves on by one plane a frame. Frame k of channel c then always lies at plane c * T + k, whatever
// the window: where channel c + 1 has its oldest frame, which leaves, channel c gets its newest. So a frame is written
// to three places, and to their mirrors. Frames that are `frame_stride` apart share a ring; there are that many rings.
//
// What lies before the first frame is filled with it (the spec's start rule "repeat").
class ClipBuffer {
 public:
  explicit ClipBuffer(const ModelSpec& spec)
      : plane_(spec.plane_size()),
        length_(static_cast<std::size_t>(spec.clip_length)),
        rings_(static_cast<std::size_t>(spec.frame_stride)) {
    memory_.resize(rings_ * ring_size() + alignment / sizeof(float));
  }

  ClipBuffer(ClipBuffer&&) = default;  // never copied: where the rings begin depends on the memory's address

  // Where the planes of the next frame go, (H, W) each: over the oldest frame of the clip that `push` gave last.
  std::array<float*, 3> next() {
    const std::size_t ring = count_ % rings_;
    return {at(ring, slot(0)), at(ring, slot(1)), at(ring, slot(2))};
  }

  // Take the frame that was written to `next`; returns the clip that ends with it, valid until the next one is written.
  const float* push() {
    const std::size_t ring = count_ % rings_, step = count_ / rings_ % (3 * length_);
    const std::array<float*, 3> planes = next();
    for (std::size_t channel = 0; channel < 3; ++channel)
      std::copy_n(planes[channel], plane_, planes[channel] + 3 * length_ * plane_);
    if (count_++ == 0) fill();
    return at(ring, step);
  }

  // Forget every frame: the next push is the first of a new video.
  void reset() { count_ = 0; }

 private:
  static constexpr std::size_t alignment = 64;

  // Before the first frame stands the first one, in every ring: the window of channel c begins at slot c * T there.
  void fill() {
    for (std::size_t ring = 0; ring < rings_; ++ring)
      for (std::size_t slot = 0; slot < 6 * length_; ++slot) {
        const std::size_t newest = (slot / length_ % 3 + 1) * length_ - 1;
        if (ring > 0 || slot % (3 * length_) != newest) std::copy_n(at(0, newest), plane_, at(ring, slot));
      }
  }

  // Of the next frame's plane, in the first half of its ring.
  std::size_t slot(std::size_t channel) const {
    return (count_ / rings_ + (channel + 1) * length_ - 1) % (3 * length_);
  }

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
