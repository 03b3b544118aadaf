// Files of models, and their bytes by position.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <istream>
#include <string>
#include <system_error>
#include <vector>

#include "yowo/errors.hpp"

namespace yowo::detail {

inline bool is_file(const std::string& path) {
  std::error_code failed;
  return std::filesystem::is_regular_file(path, failed);
}

// A file to read. Throws InputError: it is missing, a folder, a pipe, which may never end, or a device; unreadable or
// empty.
inline std::ifstream existing_file(const std::string& path, const char* what) {
  std::error_code failed;
  if (std::filesystem::exists(path, failed) && !is_file(path))
    throw InputError(text(what, " ", path, " is a folder, a pipe or a device: give the path of a file"));
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw InputError(text(what, " ", path, " is not there or cannot be read: give the path of a file"));
  if (stream.peek() == std::ifstream::traits_type::eof())
    throw InputError(text(what, " ", path, " is empty: give the path of a file"));
  return stream;
}

// The first bytes of a file beside another; "" where there is none.
inline std::string beside(const std::string& path, std::size_t most) {
  std::string content;
  if (!is_file(path)) return content;
  std::ifstream stream(path, std::ios::binary);
  content.resize(most);
  stream.read(content.data(), static_cast<std::streamsize>(most));
  content.resize(static_cast<std::size_t>(stream.gcount()));
  return content;
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
