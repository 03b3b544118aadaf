// Fields of protobuf's wire format, written.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace yowo::detail {

inline void append_varint(std::string& made, std::uint64_t value) {
  for (; value > 0x7F; value >>= 7) made += static_cast<char>(value | 0x80);
  made += static_cast<char>(value);
}
inline void append_field(std::string& made, std::uint64_t number, std::uint64_t value) {
  append_varint(made, number << 3);
  append_varint(made, value);
}
inline void append_field(std::string& made, std::uint64_t number, std::string_view bytes) {
  append_varint(made, number << 3 | 2);
  append_varint(made, bytes.size());
  made += bytes;
}

}  // namespace yowo::detail
