// Resize and normalise a BGR frame into the planes of a clip.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
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
// GCC makes vectors of these loops at -O3 alone; at -O2 a frame takes five times as long.
#if defined(__GNUC__) && !defined(__clang__)
#define YOWO_LOOPS __attribute__((optimize("O3")))
#else
#define YOWO_LOOPS
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

constexpr int weight_one = 1 << 15;  // see `resample_weights` in Python

// One output row from `taps` rows of `source`, `step` bytes apart, rounded half up and clipped to uint8. Weights are
// multiples of 2^-15, so that every sum is exact in float: in any order, fused or not, the bits are the same.
YOWO_INLINE void resample_row(const float* weights, std::size_t taps, const std::uint8_t* source, std::size_t step,
                              std::size_t length, std::uint8_t* made) {
  constexpr std::size_t most = 256;  // stays in the cache; and a length that is not constant, or GCC unrolls it all
  float sum[most];
  for (std::size_t start = 0; start < length; start += most) {
    const std::size_t count = std::min(most, length - start);
    std::fill_n(sum, count, 0.5f);
    for (std::size_t tap = 0; tap < taps; ++tap) {
      const std::uint8_t* values = source + tap * step + start;
      const float weight = weights[tap];
      for (std::size_t at = 0; at < count; ++at) sum[at] += weight * static_cast<float>(values[at]);
    }
    for (std::size_t at = 0; at < count; ++at)
      made[start + at] = static_cast<std::uint8_t>(std::clamp(static_cast<int>(sum[at]), 0, 255));
  }
}

// One row of a plane: (value / 255 - mean) / std as one product and one sum, in double, rounded once.
YOWO_INLINE void normalise_row(const std::uint8_t* source, std::size_t length, double scale, double shift, float* row) {
  for (std::size_t at = 0; at < length; ++at) row[at] = static_cast<float>(source[at] * scale + shift);
}

// The two loops over pixels, for one kind of processor.
struct Loops {
  void (*resample)(const float*, std::size_t, const std::uint8_t*, std::size_t, std::size_t, std::uint8_t*);
  void (*normalise)(const std::uint8_t*, std::size_t, double, double, float*);
};

YOWO_LOOPS inline void resample_any(const float* weights, std::size_t taps, const std::uint8_t* source,
                                    std::size_t step, std::size_t length, std::uint8_t* made) {
  resample_row(weights, taps, source, step, length, made);
}

YOWO_LOOPS inline void normalise_any(const std::uint8_t* source, std::size_t length, double scale, double shift,
                                     float* row) {
  normalise_row(source, length, scale, shift, row);
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2,fma"))) YOWO_LOOPS inline void resample_avx2(const float* weights, std::size_t taps,
                                                                         const std::uint8_t* source, std::size_t step,
                                                                         std::size_t length, std::uint8_t* made) {
  resample_row(weights, taps, source, step, length, made);
}

__attribute__((target("avx2,fma"))) YOWO_LOOPS inline void normalise_avx2(const std::uint8_t* source,
                                                                          std::size_t length, double scale,
                                                                          double shift, float* row) {
  normalise_row(source, length, scale, shift, row);
}
#endif

// The same results, the fastest way this processor has.
inline Loops loops() {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {resample_avx2, normalise_avx2};
#endif
  return {resample_any, normalise_any};
}

// (rows, columns) bytes whose rows are `stride` apart to (columns, rows) without gaps; in blocks of eight by eight, as
// single bytes take four times as long. For little-endian machines, as the engines are.
YOWO_LOOPS inline void transpose(const std::uint8_t* source, std::ptrdiff_t stride, std::size_t rows,
                                 std::size_t columns, std::uint8_t* made) {
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

// Which source pixels make each output pixel along one side, and by how much; the weights of each sum to exactly 1.
// `resample_weights` in Python says how they are rounded. All in whole numbers, but for one division: no compiler can
// make other bits of it.
class Taps {
 public:
  Taps() = default;

  Taps(int length_in, int length_out, const std::string& filter) {
    const std::int64_t in = length_in, out = length_out, unit = 2 * std::max(in, out);
    const std::int64_t reach = filter == "nearest" ? 0 : filter == "bilinear" ? 1 : 2;
    const std::int64_t wide = reach * ((unit / 2 + out - 1) / out) + (reach ? 1 : 0);
    for (std::int64_t made = 0; made < out; ++made) {
      const std::int64_t centre = (2 * made + 1) * in, under = centre / (2 * out);
      add(std::max<std::int64_t>(under - wide, 0), std::min(under + wide + 1, in), [&](std::int64_t source) {
        const std::int64_t distance = std::abs((2 * source + 1) * out - centre);
        return reach == 0 ? 1 : reach == 1 ? std::max<std::int64_t>(unit - distance, 0) : cubic(distance, unit);
      });
    }
  }

  std::size_t size() const { return first_.size(); }
  std::size_t first(std::size_t made) const { return first_[made]; }
  std::size_t count(std::size_t made) const { return ends_[made] - (made ? ends_[made - 1] : 0); }
  const float* weights(std::size_t made) const { return weights_.data() + ends_[made] - count(made); }

 private:
  template <class Weigh>
  void add(std::int64_t low, std::int64_t high, const Weigh& weigh) {
    double sum = 0, running = 0;  // exact up to 2^53, then rounded as in Python
    std::int64_t given = 0;
    for (std::int64_t source = low; source < high; ++source) sum += static_cast<double>(weigh(source));
    first_.push_back(static_cast<std::size_t>(low));
    for (std::int64_t source = low; source < high; ++source) {
      running += static_cast<double>(weigh(source));
      const auto end = static_cast<std::int64_t>(std::floor(running / sum * weight_one + 0.5));
      const bool leads = end == given && weights_.size() == (ends_.empty() ? 0 : ends_.back());
      if (leads && source + 1 < high)
        first_.back() = static_cast<std::size_t>(source + 1);
      else
        weights_.push_back(static_cast<float>(end - given) / weight_one);
      given = end;
    }
    while (weights_.size() - (ends_.empty() ? 0 : ends_.back()) > 1 && weights_.back() == 0) weights_.pop_back();
    ends_.push_back(weights_.size());
  }

  // Keys' cubic with a = -0.5, times 2 unit^3; below 2^53 for frames of up to `FrameView::max_side`.
  static std::int64_t cubic(std::int64_t distance, std::int64_t unit) {
    if (distance < unit) return (3 * distance - 5 * unit) * distance * distance + 2 * unit * unit * unit;
    if (distance >= 2 * unit) return 0;
    return ((5 * unit - distance) * distance - 8 * unit * unit) * distance + 4 * unit * unit * unit;
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
        loops_(detail::loops()),
        resized_(3 * spec.plane_size()) {
    for (std::size_t channel = 0; channel < 3; ++channel) {
      bgr_[channel] = spec.colour == "rgb" ? 2 - channel : channel;
      for (std::size_t value = 0; value < 256; ++value)
        normalised_[channel][value] =
            static_cast<float>((static_cast<double>(value) / 255 - spec.mean[channel]) / spec.std[channel]);
      scale_[channel] = 1 / (255 * spec.std[channel]), shift_[channel] = -spec.mean[channel] / spec.std[channel];
      is_linear_[channel] = is_linear(channel);
    }
  }

  // Squash a frame to the input size: (3, H, W) uint8, the blue plane first; valid until the next call.
  //
  // The same bits as in Python, whatever the compiler, its flags and the processor.
  // Throws InputError, see `FrameView::check`.
  const std::uint8_t* resize(const FrameView& frame) {
    frame.check();
    const auto width = static_cast<std::size_t>(frame.width), height = static_cast<std::size_t>(frame.height);
    if (known_wh_ != std::array<std::size_t, 2>{width, height}) {
      known_wh_ = {};  // memory may run out on the way
      across_ = detail::Taps(frame.width, static_cast<int>(width_), filter_);
      down_ = detail::Taps(frame.height, static_cast<int>(height_), filter_);
      turned_.resize(3 * height * std::max(width, width_));
      narrow_.resize(3 * width_ * height);
      known_wh_ = {width, height};
    }
    // Columns first: the order shows where overshoot is cut off.
    detail::transpose(frame.data, frame.row_bytes(), height, 3 * width, turned_.data());
    for (std::size_t colour = 0; colour < 3; ++colour)
      for (std::size_t x = 0; x < width_; ++x)
        loops_.resample(across_.weights(x), across_.count(x), turned_.data() + (3 * across_.first(x) + colour) * height,
                        3 * height, height, narrow_.data() + (colour * width_ + x) * height);
    // To (height, 3, width of the input).
    detail::transpose(narrow_.data(), frame.height, 3 * width_, height, turned_.data());
    for (std::size_t y = 0; y < height_; ++y) {
      loops_.resample(down_.weights(y), down_.count(y), turned_.data() + down_.first(y) * 3 * width_, 3 * width_,
                      3 * width_, narrow_.data());
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
        if (is_linear_[channel])
          loops_.normalise(source, width_, scale_[channel], shift_[channel], row);
        else
          for (std::size_t x = 0; x < width_; ++x) row[x] = normalised_[channel][source[x]];
      }
  }

 private:
  // Whether one product and one sum, fused or not, give every byte the bits that it must have.
  bool is_linear(std::size_t channel) const {
    for (std::size_t value = 0; value < 256; ++value) {
      const double product = static_cast<double>(value) * scale_[channel], sum = product + shift_[channel];
      const double error = (std::abs(product) + std::abs(shift_[channel])) * std::ldexp(1.0, -50);
      for (const double each : {sum - error, sum + error})
        if (static_cast<float>(each) != normalised_[channel][value]) return false;
    }
    return true;
  }

  std::size_t width_, height_;
  std::string filter_;
  detail::Loops loops_;
  std::array<std::size_t, 3> bgr_{};
  std::array<std::array<float, 256>, 3> normalised_{};  // what becomes of each byte
  std::array<double, 3> scale_{}, shift_{};
  std::array<bool, 3> is_linear_{};
  std::array<std::size_t, 2> known_wh_{};
  detail::Taps across_, down_;
  std::vector<std::uint8_t> turned_, narrow_, resized_;
};

}  // namespace yowo

#undef YOWO_INLINE
#undef YOWO_LOOPS
