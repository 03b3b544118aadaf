// From a BGR frame to the planes that a clip is made of. Knows nothing of clips or engines.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
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
      throw InputError(detail::text("frame is ", width, " x ", height, data ? "" : " at a null pointer", ", expected 1 to ", max_side,
                                    " pixels a side of uint8 BGR"));
    if (row_bytes() < std::ptrdiff_t{3} * width)
      throw InputError(detail::text("rows are ", stride, " bytes apart, expected at least ", 3 * width, " for ", width,
                                    " pixels of 3 bytes, or 0 for rows without gaps"));
  }

  static constexpr int max_side = 1 << 15;
};

namespace detail {

// `sum[i] = fma(weight, source[i], sum[i])` for each tap in turn: one rounding a step, as BLAS has it on processors with
// that instruction, and as the result is defined here on all others.
template <std::size_t length>
YOWO_INLINE void weigh(const float* weights, std::size_t taps, const float* source, std::size_t step, float* sum) {
  float total[length] = {};
  for (std::size_t tap = 0; tap < taps; ++tap) {
    const float weight = weights[tap];
    const float* values = source + tap * step;
    for (std::size_t at = 0; at < length; ++at) total[at] = std::fma(weight, values[at], total[at]);
  }
  for (std::size_t at = 0; at < length; ++at) sum[at] = total[at];
}

// Output `made` = weights x sources, for one output position of many independent columns: (taps, columns) to (columns).
// Rounded half up to uint8, as Pillow does, and kept as a float for the next pass.
YOWO_INLINE void resample_columns(const float* weights, std::size_t taps, const float* source, std::size_t columns, float* made) {
  constexpr std::size_t block = 32;
  float sum[block];
  for (std::size_t start = 0; start < columns; start += block) {
    const std::size_t length = std::min(block, columns - start);
    if (length == block) {
      weigh<block>(weights, taps, source + start, columns, sum);
    } else {
      for (std::size_t at = 0; at < length; ++at) weigh<1>(weights, taps, source + start + at, columns, sum + at);
    }
    for (std::size_t at = 0; at < length; ++at) {
      const float clipped = std::min(std::max(sum[at], 0.0f), 255.0f);
      made[start + at] = static_cast<float>(static_cast<int>(clipped + 0.5f));
    }
  }
}

using Resample = void (*)(const float*, std::size_t, const float*, std::size_t, float*);

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2,fma"))) inline void resample_fma(const float* weights, std::size_t taps, const float* source,
                                                             std::size_t columns, float* made) {
  resample_columns(weights, taps, source, columns, made);
}
#endif

inline void resample_anywhere(const float* weights, std::size_t taps, const float* source, std::size_t columns, float* made) {
  resample_columns(weights, taps, source, columns, made);
}

// The same results, the fastest way this processor has.
inline Resample resample() {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return resample_fma;
#endif
  return resample_anywhere;
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
      : size_wh_(spec.input_size), filter_(spec.resize_filter), resample_(detail::resample()), resized_(3 * spec.plane_size()) {
    for (std::size_t channel = 0; channel < 3; ++channel) {
      bgr_[channel] = spec.colour == "rgb" ? 2 - channel : channel;
      for (std::size_t value = 0; value < 256; ++value) {
        // Two roundings, as in Python: not to be contracted into one instruction.
        volatile float scaled = static_cast<float>(value) * static_cast<float>(1.0 / (255 * spec.std[channel]));
        table_[channel][value] = spec.mean[channel] == 0 ? scaled : scaled - static_cast<float>(spec.mean[channel] / spec.std[channel]);
      }
    }
  }

  // Squash a frame to the input size: (H, W, 3) uint8 BGR without gaps, valid until the next call.
  //
  // "nearest" is Python's to the last bit. "bilinear" and "bicubic" are so where Python's BLAS multiplies and adds in one
  // rounding, as on every x86 processor with FMA; elsewhere a grey level may differ by one where a sum is a half.
  // Throws InputError, see `FrameView::check`.
  const std::uint8_t* resize(const FrameView& frame) {
    frame.check();
    const auto width = static_cast<std::size_t>(size_wh_[0]), height = static_cast<std::size_t>(size_wh_[1]);
    if (frame.width != known_wh_[0] || frame.height != known_wh_[1]) prepare(frame);
    if (frame.width == size_wh_[0] && frame.height == size_wh_[1]) {
      for (int y = 0; y < frame.height; ++y) std::copy_n(frame.row(y), 3 * width, resized_.data() + static_cast<std::size_t>(y) * 3 * width);
      return resized_.data();
    }
    if (filter_ == "nearest") {
      std::uint8_t* out = resized_.data();
      for (std::size_t y = 0; y < height; ++y)
        for (std::size_t x = 0; x < width; ++x)
          out = std::copy_n(frame.row(static_cast<int>(down_.first(y))) + 3 * across_.first(x), 3, out);
      return resized_.data();
    }
    shrink_columns(frame);
    for (std::size_t y = 0; y < height; ++y) {
      resample_(down_.weights(y), down_.count(y), narrow_.data() + down_.first(y) * 3 * width, 3 * width, sums_.data());
      for (std::size_t at = 0; at < 3 * width; ++at) resized_[y * 3 * width + at] = static_cast<std::uint8_t>(sums_[at]);
    }
    return resized_.data();
  }

  // One frame as the model's planes, (3, H, W): resized, in the spec's colour order, (value / 255 - mean) / std.
  void operator()(const FrameView& frame, float* planes) {
    const std::uint8_t* pixels = resize(frame);
    const std::size_t plane = resized_.size() / 3;
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const auto& table = table_[channel];
      const std::uint8_t* source = pixels + bgr_[channel];
      for (std::size_t at = 0; at < plane; ++at) planes[channel * plane + at] = table[source[3 * at]];
    }
  }

 private:
  static constexpr std::size_t strip_ = 32;  // rows that are turned, and shrunk, at a time

  void prepare(const FrameView& frame) {
    across_ = detail::Taps(frame.width, size_wh_[0], filter_);
    down_ = detail::Taps(frame.height, size_wh_[1], filter_);
    const auto width = static_cast<std::size_t>(size_wh_[0]), taller = static_cast<std::size_t>(frame.height);
    narrow_.resize(3 * width * taller);
    turned_.resize(static_cast<std::size_t>(frame.width) * 3 * strip_);
    sums_.resize(std::max(3 * width, 3 * strip_));
    known_wh_ = {frame.width, frame.height};
  }

  // (H, W, 3) to (H, width of the input, 3), columns first: the order shows where overshoot is cut off.
  void shrink_columns(const FrameView& frame) {
    const std::size_t width = across_.size(), wide = static_cast<std::size_t>(frame.width);
    for (std::size_t top = 0; top < static_cast<std::size_t>(frame.height); top += strip_) {
      const std::size_t rows = std::min(strip_, static_cast<std::size_t>(frame.height) - top), columns = 3 * rows;
      for (std::size_t row = 0; row < rows; ++row) {  // turned: (W, 3, rows)
        const std::uint8_t* pixels = frame.row(static_cast<int>(top + row));
        for (std::size_t at = 0; at < 3 * wide; ++at) turned_[at * rows + row] = static_cast<float>(pixels[at]);
      }
      for (std::size_t x = 0; x < width; ++x) {
        resample_(across_.weights(x), across_.count(x), turned_.data() + across_.first(x) * columns, columns, sums_.data());
        for (std::size_t colour = 0; colour < 3; ++colour)
          for (std::size_t row = 0; row < rows; ++row)
            narrow_[((top + row) * width + x) * 3 + colour] = sums_[colour * rows + row];
      }
    }
  }

  std::array<int, 2> size_wh_, known_wh_{0, 0};
  std::string filter_;
  detail::Resample resample_;
  std::array<std::size_t, 3> bgr_{};
  std::array<std::array<float, 256>, 3> table_{};
  detail::Taps across_, down_;
  std::vector<float> turned_, narrow_, sums_;
  std::vector<std::uint8_t> resized_;
};

}  // namespace yowo

#undef YOWO_INLINE
