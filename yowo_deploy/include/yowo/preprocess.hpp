// From a BGR frame to the planes that a clip is made of. Knows nothing of clips or engines.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "yowo/errors.hpp"
#include "yowo/spec.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#define YOWO_INLINE inline __attribute__((always_inline))
#else
#define YOWO_INLINE inline
#endif

namespace yowo {

// Pixels of 3 bytes, blue first, in rows that are `stride` bytes apart; 0 stands for rows without gaps. Not owned.
struct FrameView {
  const std::uint8_t* data = nullptr;
  int width = 0;
  int height = 0;
  std::ptrdiff_t stride = 0;

  std::ptrdiff_t row_bytes() const { return stride ? stride : std::ptrdiff_t{3} * width; }
  const std::uint8_t* row(int y) const { return data + row_bytes() * y; }

  // Throws InputError: no pixels, or rows that are shorter than their pixels.
  void check() const {
    if (!data || width < 1 || height < 1 || width > max_side || height > max_side)
      throw InputError(detail::text("frame is ", width, " x ", height, data ? "" : " at a null pointer",
                                    ", expected 1 to ", max_side, " pixels a side of uint8 BGR"));
    if (row_bytes() < std::ptrdiff_t{3} * width)
      throw InputError(detail::text("rows are ", stride, " bytes apart, expected at least ", 3 * width, " for ", width,
                                    " pixels of 3 bytes, or 0 for rows without gaps"));
  }

  static constexpr int max_side = 1 << 15;
};

namespace detail {

// One output row from `taps` rows of `source`, `step` bytes apart: sum = fma(weight, source, sum) for each tap in turn,
// one rounding a step, as BLAS has it on processors with that instruction, and as it is defined here on all others.
// Rounded half up to uint8, as Pillow does between its passes.
YOWO_INLINE void resample_row(const float* weights, std::size_t taps, const std::uint8_t* source, std::size_t step,
                              std::size_t length, std::uint8_t* made) {
  constexpr std::size_t most = 256;  // stays in the cache; and a length that is not constant, or GCC unrolls it all
  float sum[most];
  for (std::size_t start = 0; start < length; start += most) {
    const std::size_t count = std::min(most, length - start);
    std::fill_n(sum, count, 0.0f);
    for (std::size_t tap = 0; tap < taps; ++tap) {
      const std::uint8_t* values = source + tap * step + start;
      const float weight = weights[tap];
      for (std::size_t at = 0; at < count; ++at) sum[at] = std::fma(weight, static_cast<float>(values[at]), sum[at]);
    }
    for (std::size_t at = 0; at < count; ++at)
      made[start + at] = static_cast<std::uint8_t>(std::clamp(static_cast<int>(sum[at] + 0.5f), 0, 255));
  }
}

using Resample = void (*)(const float*, std::size_t, const std::uint8_t*, std::size_t, std::size_t, std::uint8_t*);

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2,fma"))) inline void resample_fma(const float* weights, std::size_t taps,
                                                             const std::uint8_t* source, std::size_t step,
                                                             std::size_t length, std::uint8_t* made) {
  resample_row(weights, taps, source, step, length, made);
}
#endif

inline void resample_anywhere(const float* weights, std::size_t taps, const std::uint8_t* source, std::size_t step,
                              std::size_t length, std::uint8_t* made) {
  resample_row(weights, taps, source, step, length, made);
}

// The same results, the fastest way this processor has.
inline Resample resample() {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return resample_fma;
#endif
  return resample_anywhere;
}

// (rows, columns) bytes whose rows are `stride` apart to (columns, rows) without gaps; in blocks of eight by eight, as
// single bytes take four times as long. For little-endian machines, as the engines are.
inline void transpose(const std::uint8_t* source, std::ptrdiff_t stride, std::size_t rows, std::size_t columns,
                      std::uint8_t* made) {
  const auto row = [&](std::size_t number) { return source + stride * static_cast<std::ptrdiff_t>(number); };
  for (std::size_t top = 0; top < rows; top += 8)
    for (std::size_t left = 0; left < columns; left += 8) {
      if (top + 8 > rows || left + 8 > columns) {
        for (std::size_t y = top; y < std::min(top + 8, rows); ++y)
          for (std::size_t x = left; x < std::min(left + 8, columns); ++x) made[x * rows + y] = row(y)[x];
        continue;
      }
      std::array<std::uint64_t, 8> block;
      for (std::size_t y = 0; y < 8; ++y) std::memcpy(&block[y], row(top + y) + left, 8);
      const auto swap = [&](std::size_t y, std::size_t apart, std::uint64_t mask) {  // squares of so many bytes
        const std::uint64_t swapped = (block[y] >> 8 * apart ^ block[y + apart]) & mask;
        block[y] ^= swapped << 8 * apart;
        block[y + apart] ^= swapped;
      };
      for (const std::size_t y : {0u, 2u, 4u, 6u}) swap(y, 1, 0x00FF00FF00FF00FF);
      for (const std::size_t y : {0u, 1u, 4u, 5u}) swap(y, 2, 0x0000FFFF0000FFFF);
      for (const std::size_t y : {0u, 1u, 2u, 3u}) swap(y, 4, 0x00000000FFFFFFFF);
      for (std::size_t x = 0; x < 8; ++x) std::memcpy(made + (left + x) * rows + top, &block[x], 8);
    }
}

// Which source pixels make each output pixel along one side, and by how much; the weights of each sum to 1.
class Taps {
 public:
  Taps() = default;

  Taps(int length_in, int length_out, const std::string& filter) {
    const double shrink = std::max(static_cast<double>(length_in) / length_out, 1.0);
    const double support = (filter == "bilinear" ? 1.0 : 2.0) * shrink;
    const int most = filter == "nearest" ? 1 : 2 * static_cast<int>(std::ceil(support)) + 1;
    for (int made = 0; made < length_out; ++made) {
      const double centre = (made + 0.5) * length_in / length_out;
      const int start = static_cast<int>(std::floor(filter == "nearest" ? centre : centre - support + 0.5));
      const int low = std::clamp(start, 0, length_in - 1), high = std::clamp(start + most, low + 1, length_in);
      add(low, high, [&](int source) {
        const double x = std::abs((source + 0.5 - centre) / shrink);
        return filter == "nearest" ? 1.0 : filter == "bilinear" ? std::max(1 - x, 0.0) : cubic(x);
      });
    }
  }

  std::size_t size() const { return first_.size(); }
  std::size_t first(std::size_t made) const { return first_[made]; }
  std::size_t count(std::size_t made) const { return ends_[made] - (made ? ends_[made - 1] : 0); }
  const float* weights(std::size_t made) const { return weights_.data() + ends_[made] - count(made); }

 private:
  template <class Weigh>
  void add(int low, int high, const Weigh& weigh) {
    double sum = 0;
    for (int source = low; source < high; ++source) sum += weigh(source);
    while (high - low > 1 && weigh(high - 1) == 0) --high;
    while (high - low > 1 && weigh(low) == 0) ++low;
    for (int source = low; source < high; ++source) weights_.push_back(static_cast<float>(weigh(source) / sum));
    first_.push_back(static_cast<std::size_t>(low));
    ends_.push_back(weights_.size());
  }

  // Keys' cubic with a = -0.5 at distances x >= 0.
  static double cubic(double x) {
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((2.5 - 0.5 * x) * x - 4) * x + 2 : 0;
  }

  std::vector<std::size_t> first_, ends_;
  std::vector<float> weights_;
};

}  // namespace detail

// Frames of any size to planes of a model's; what one frame size needs is worked out once.
class Preprocessor {
 public:
  // `spec` is one that `check` has passed.
  explicit Preprocessor(const ModelSpec& spec)
      : width_(static_cast<std::size_t>(spec.input_size[0])),
        height_(static_cast<std::size_t>(spec.input_size[1])),
        filter_(spec.resize_filter),
        resample_(detail::resample()),
        resized_(3 * spec.plane_size()) {
    for (std::size_t channel = 0; channel < 3; ++channel) {
      bgr_[channel] = spec.colour == "rgb" ? 2 - channel : channel;
      gain_[channel] = static_cast<float>(1.0 / (255 * spec.std[channel]));
      offset_[channel] = static_cast<float>(spec.mean[channel] / spec.std[channel]);
    }
  }

  // Squash a frame to the input size: (3, H, W) uint8, the blue plane first; valid until the next call.
  //
  // "nearest" is Python's to the last bit. "bilinear" and "bicubic" are so where Python's BLAS multiplies and adds in
  // one rounding, as on every x86 processor with FMA; elsewhere a grey level may differ by one where a sum is a half.
  // Throws InputError, see `FrameView::check`.
  const std::uint8_t* resize(const FrameView& frame) {
    frame.check();
    const auto width = static_cast<std::size_t>(frame.width), height = static_cast<std::size_t>(frame.height);
    if (width != known_wh_[0] || height != known_wh_[1]) prepare(frame);
    if (filter_ == "nearest" || (width == width_ && height == height_)) {
      for (std::size_t y = 0; y < height_; ++y) {
        const std::uint8_t* row = frame.row(static_cast<int>(down_.first(y)));
        for (std::size_t colour = 0; colour < 3; ++colour)
          for (std::size_t x = 0; x < width_; ++x)
            resized_[(colour * height_ + y) * width_ + x] = row[3 * across_.first(x) + colour];
      }
      return resized_.data();
    }
    // Columns first: the order shows where overshoot is cut off.
    detail::transpose(frame.data, frame.row_bytes(), height, 3 * width, turned_.data());
    for (std::size_t colour = 0; colour < 3; ++colour)
      for (std::size_t x = 0; x < width_; ++x)
        resample_(across_.weights(x), across_.count(x), turned_.data() + (3 * across_.first(x) + colour) * height,
                  3 * height, height, narrow_.data() + (colour * width_ + x) * height);
    detail::transpose(narrow_.data(), frame.height, 3 * width_, height,
                      turned_.data());  // (height, 3, width of the input)
    for (std::size_t y = 0; y < height_; ++y) {
      resample_(down_.weights(y), down_.count(y), turned_.data() + down_.first(y) * 3 * width_, 3 * width_, 3 * width_,
                narrow_.data());
      for (std::size_t colour = 0; colour < 3; ++colour)
        std::copy_n(narrow_.data() + colour * width_, width_, resized_.data() + (colour * height_ + y) * width_);
    }
    return resized_.data();
  }

  // One frame as the model's planes, (H, W) each: resized, in the spec's colour order, (value / 255 - mean) / std.
  void operator()(const FrameView& frame, const std::array<float*, 3>& planes) {
    const std::uint8_t* pixels = resize(frame);
    for (std::size_t channel = 0; channel < 3; ++channel)
      for (std::size_t y = 0; y < height_; ++y) {
        const std::uint8_t* source = pixels + (bgr_[channel] * height_ + y) * width_;
        float* row = planes[channel] + y * width_;
        // Two loops for two roundings, as in Python: in one the compiler may make one of them.
        for (std::size_t x = 0; x < width_; ++x) row[x] = static_cast<float>(source[x]) * gain_[channel];
        for (std::size_t x = 0; x < width_; ++x) row[x] -= offset_[channel];
      }
  }

 private:
  void prepare(const FrameView& frame) {
    const bool same =
        static_cast<std::size_t>(frame.width) == width_ && static_cast<std::size_t>(frame.height) == height_;
    across_ = detail::Taps(frame.width, static_cast<int>(width_), same ? "nearest" : filter_);
    down_ = detail::Taps(frame.height, static_cast<int>(height_), same ? "nearest" : filter_);
    known_wh_ = {static_cast<std::size_t>(frame.width), static_cast<std::size_t>(frame.height)};
    if (filter_ == "nearest" || same) return;
    turned_.resize(3 * known_wh_[1] * std::max(known_wh_[0], width_));
    narrow_.resize(3 * width_ * known_wh_[1]);
  }

  std::size_t width_, height_;
  std::string filter_;
  detail::Resample resample_;
  std::array<std::size_t, 3> bgr_{};
  std::array<float, 3> gain_{}, offset_{};
  std::array<std::size_t, 2> known_wh_{};
  detail::Taps across_, down_;
  std::vector<std::uint8_t> turned_, narrow_, resized_;
};

}  // namespace yowo

#undef YOWO_INLINE
