// Read base64 (RFC 4648) and zlib's format (RFC 1950 and 1951), in which a file carries its streaming form.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "yowo/errors.hpp"

namespace yowo::detail {

[[noreturn]] inline void damaged() { throw InputError("damaged"); }

// The bytes of a text without line ends. Throws InputError: it is none of base64.
inline std::string from_base64(std::string_view text) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::size_t length = text.find_last_not_of('=') + 1;  // 0 where there is no other character
  if (text.size() % 4 || text.size() - length > 2) damaged();
  std::string made;
  made.reserve(text.size() / 4 * 3);
  std::uint32_t held = 0;
  for (std::size_t at = 0; at < length; ++at) {
    const std::size_t digit = digits.find(text[at]);
    if (digit == std::string_view::npos) damaged();
    held = held << 6 | static_cast<std::uint32_t>(digit);
    if (at % 4) made += static_cast<char>(held >> (6 - 2 * (at % 4)) & 255);
  }
  return made;
}

class Inflater {
 public:
  explicit Inflater(std::string_view packed) : packed_(packed) {}

  // What was packed. Throws InputError: it is damaged, cut off, followed by something, or longer than `most` bytes.
  std::string run(std::size_t most) {
    most_ = most;
    const std::uint32_t method = bits(8), flags = bits(8);
    if ((method * 256 + flags) % 31 || method % 16 != 8 || method >> 4 > 7 || flags & 32) damaged();
    for (bool last = false; !last;) {
      last = bits(1);
      const std::uint32_t kind = bits(2);
      if (kind == 3) damaged();
      kind == 0 ? stored() : kind == 1 ? fixed() : described();
    }
    held_ = count_ = 0;  // the rest of a byte
    std::uint32_t expected = 0, low = 1, high = 0;
    for (int byte = 0; byte < 4; ++byte) expected = expected << 8 | bits(8);
    for (const char each : made_) {
      low = (low + static_cast<unsigned char>(each)) % 65521;
      high = (high + low) % 65521;
    }
    if (expected != (high << 16 | low) || at_ != packed_.size()) damaged();
    return std::move(made_);
  }

 private:
  static constexpr int longest = 15;
  static constexpr std::size_t end_of_block = 256;

  // Symbols in the order of their codes, and how many codes of each length there are.
  struct Codes {
    std::array<std::uint32_t, longest + 1> counts{};
    std::vector<std::uint32_t> symbols;

    explicit Codes(const std::vector<std::uint32_t>& lengths) {
      std::uint32_t room = 1;
      for (std::uint32_t length = 1; length <= longest; ++length) {
        for (std::uint32_t symbol = 0; symbol < lengths.size(); ++symbol)
          if (lengths[symbol] == length) symbols.push_back(symbol), ++counts[length];
        if (counts[length] > 2 * room) damaged();
        room = 2 * room - counts[length];
      }
    }
  };

  std::uint32_t bits(std::uint32_t wanted) {
    for (; count_ < wanted; count_ += 8) {
      if (at_ == packed_.size()) damaged();
      held_ |= static_cast<std::uint32_t>(static_cast<unsigned char>(packed_[at_++])) << count_;
    }
    const std::uint32_t found = held_ & ((1u << wanted) - 1);
    held_ >>= wanted, count_ -= wanted;
    return found;
  }

  // Codes of one length are consecutive numbers, and begin behind those of the length before, with a bit more.
  std::uint32_t symbol(const Codes& codes) {
    std::uint32_t code = 0, first = 0, before = 0;
    for (std::size_t length = 1; length <= longest; ++length) {
      code = code << 1 | bits(1), first <<= 1;
      if (code - first < codes.counts[length]) return codes.symbols[before + code - first];
      first += codes.counts[length], before += codes.counts[length];
    }
    damaged();
  }

  void put(char byte) {
    if (made_.size() == most_) damaged();
    made_ += byte;
  }

  void stored() {
    held_ = count_ = 0;
    const std::uint32_t length = bits(16);
    if (bits(16) != (length ^ 0xFFFF) || length > packed_.size() - at_) damaged();
    for (std::uint32_t each = 0; each < length; ++each) put(packed_[at_++]);
  }

  void fixed() {
    std::vector<std::uint32_t> lengths(288, 8);
    std::fill(lengths.begin() + 144, lengths.begin() + 256, 9), std::fill(lengths.begin() + 256, lengths.end() - 8, 7);
    block(Codes(lengths), Codes(std::vector<std::uint32_t>(30, 5)));
  }

  void described() {
    constexpr std::array<std::size_t, 19> order{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    const std::uint32_t literals = bits(5) + 257, distances = bits(5) + 1, given = bits(4) + 4;
    std::vector<std::uint32_t> lengths(19, 0);
    for (std::uint32_t at = 0; at < given; ++at) lengths[order[at]] = bits(3);
    const Codes of_lengths(lengths);
    lengths.clear();
    while (lengths.size() < literals + distances) {
      const std::uint32_t found = symbol(of_lengths);
      if (found == 16 && lengths.empty()) damaged();
      const std::uint32_t repeated = found == 16 ? lengths.back() : found > 16 ? 0 : found;
      const std::uint32_t times = found < 16 ? 1 : found == 16 ? 3 + bits(2) : found == 17 ? 3 + bits(3) : 11 + bits(7);
      lengths.insert(lengths.end(), times, repeated);
    }
    if (lengths.size() > literals + distances || literals > 286 || distances > 30) damaged();
    const auto middle = lengths.begin() + static_cast<std::ptrdiff_t>(literals);
    block(Codes({lengths.begin(), middle}), Codes({middle, lengths.end()}));
  }

  void block(const Codes& literals, const Codes& distances) {
    for (;;) {
      const std::uint32_t found = symbol(literals);
      if (found == end_of_block) return;
      if (found < end_of_block) {
        put(static_cast<char>(static_cast<unsigned char>(found)));
        continue;
      }
      if (found > 285) damaged();
      // Eight lengths of one byte each, then four for each number of further bits; the last one is 258 without any.
      const std::uint32_t step = found - 257, more = step < 8 || step == 28 ? 0 : (step - 4) / 4;
      const std::uint32_t base = step < 8 ? 3 + step : step == 28 ? 258 : 3 + ((4 + step % 4) << more);
      const std::uint32_t length = base + bits(more), apart = symbol(distances);
      if (apart > 29) damaged();
      const std::uint32_t further = apart < 4 ? 0 : (apart - 2) / 2;
      const std::size_t distance = (apart < 4 ? 1 + apart : 1 + ((2 + apart % 2) << further)) + bits(further);
      if (distance > made_.size()) damaged();
      for (std::uint32_t each = 0; each < length; ++each) put(made_[made_.size() - distance]);
    }
  }

  std::string_view packed_;
  std::size_t at_ = 0, most_ = 0;
  std::uint32_t held_ = 0, count_ = 0;
  std::string made_;
};

}  // namespace yowo::detail
