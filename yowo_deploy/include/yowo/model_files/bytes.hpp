// Files of models, and their bytes by position.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <istream>
#include <string>
#include <vector>

#include "yowo/errors.hpp"

namespace yowo::detail {

// A file to read. Throws InputError: it is missing, a folder, unreadable or empty.
inline std::ifstream existing_file(const std::string& path, const char* what) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw InputError(text(what, " ", path, " is not there or cannot be read: give the path of a file"));
  if (stream.peek() == std::ifstream::traits_type::eof())
    throw InputError(text(what, " ", path, " is a folder or is empty: give the path of a file"));
  return stream;
}

// Bytes of a stream by their position, through a window: of hundreds of megabytes only what is asked for is read.
class Bytes {
 public:
  explicit Bytes(std::istream& stream) : stream_(stream) {
    stream.clear();  // an earlier read may have reached the end
    stream.seekg(0, std::ios::end);
    size_ = static_cast<std::uint64_t>(std::max<std::streamoff>(0, stream.tellg()));
  }

  std::uint64_t size() const { return size_; }

  unsigned char operator[](std::uint64_t at) {
    if (at < start_ || at - start_ >= window_.size()) load(at);
    return static_cast<unsigned char>(window_[static_cast<std::size_t>(at - start_)]);
  }

  std::string copy(std::uint64_t from, std::uint64_t to) {
    std::string made;
    for (; from < to; ++from) made += static_cast<char>((*this)[from]);
    return made;
  }

 private:
  void load(std::uint64_t at) {
    window_.resize(1 << 14);
    stream_.clear();
    stream_.seekg(static_cast<std::streamoff>(at));
    stream_.read(window_.data(), static_cast<std::streamsize>(window_.size()));
    window_.resize(static_cast<std::size_t>(stream_.gcount()));
    start_ = at;
    if (window_.empty()) throw InputError("the file became shorter while it was read: try again");
  }

  std::istream& stream_;
  std::uint64_t size_ = 0, start_ = 0;
  std::vector<char> window_;
};

}  // namespace yowo::detail
