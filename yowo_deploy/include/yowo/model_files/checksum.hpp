// The checksum that a model file records of itself, verified before anything in it is used.
//
// `yowo_deploy/model_files/checksum.py` says why it is a CRC-32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "yowo/digest.hpp"
#include "yowo/errors.hpp"

namespace yowo::detail {

// What precedes the eight digits, and what a file begins with: the head of an entry of its metadata.
constexpr std::string_view onnx_mark = "\x72\x16\x0a\x0ayowo_crc32\x12\x08";

// Whether an ONNX file records its checksum, which then is the right one. Throws ModelFileError: it is another one. A
// mark of which a quarter is damaged still counts as one.
inline bool has_checksum(const std::string& path, std::string_view content) {
  if (content.size() < onnx_mark.size() + 8) return false;
  const std::string_view mark = content.substr(0, onnx_mark.size()), digits = content.substr(mark.size(), 8);
  std::size_t alike = 0;
  for (std::size_t at = 0; at < mark.size(); ++at) alike += mark[at] == onnx_mark[at];
  if (4 * alike < 3 * mark.size()) return false;
  std::string expected(8, '0');
  const std::uint32_t crc = crc32(content.substr(mark.size() + 8), crc32(mark));
  for (std::size_t at = 0; at < 8; ++at) expected[at] = "0123456789abcdef"[crc >> (28 - 4 * at) & 15];
  if (mark != onnx_mark || digits != expected)
    throw ModelFileError(path +
                         " is damaged, or was changed by another program: it does not have the checksum that it "
                         "records; copy it again, or write it again");
  return true;
}

}  // namespace yowo::detail
