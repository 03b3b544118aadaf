// The tree of errors that the runtime throws.
//
//     YowoError
//     ├── InputError                 the user's file, option or frame is not what it should be
//     │   ├── SpecError              a model's description is missing, broken or of a newer format
//     │   └── ModelFileError         an ONNX file or a plan cannot be used
//     └── MissingEngineError         an engine was not compiled in
//
// A message says what was found, what was expected, and what to do, in one line without control characters: names in a
// model file are a stranger's.
#pragma once

#include <cstddef>
#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>

namespace yowo {

namespace detail {

// One line that commands no terminal; of a long one both ends. As `plain_text.shown` in Python, but for secrets.
inline std::string shown(std::string text) {
  const auto byte = [&](std::size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u; };
  const auto inner = [&](std::size_t at) { return (byte(at) & 0xC0) == 0x80; };  // of a character
  constexpr std::size_t longest = 480, tail = longest / 3;
  if (text.size() > longest) {
    std::size_t head = longest - tail - 5, rest = text.size() - tail;
    while (inner(head)) --head;
    while (inner(rest)) ++rest;
    text = text.substr(0, head) + " ... " + text.substr(rest);
  }
  for (std::size_t at = 0; at < text.size(); ++at) {
    const unsigned first = byte(at), second = byte(at + 1), third = byte(at + 2);
    // Ends of lines, and marks that turn letters round.
    const bool mark = second == 0x80 ? (third > 0x8A && third < 0x90) || (third > 0xA7 && third < 0xAF)
                                     : second == 0x81 && third > 0x9F;
    const std::size_t size = first == 0xE2 && mark                   ? 3
                             : first == 0xC2 && inner(at + 1) && second < 0xA0 ? 2
                             : first < 0x20 || first == 0x7F         ? 1
                                                                     : 0;
    if (size) text.replace(at, size, first == '\n' ? " " : "?");
  }
  return text;
}

}  // namespace detail

// The root: catch it to catch all of them.
struct YowoError : std::runtime_error {
  explicit YowoError(const std::string& what) : std::runtime_error(detail::shown(what)) {}
};

struct InputError : YowoError {
  using YowoError::YowoError;
};

struct SpecError : InputError {
  using InputError::InputError;
};

struct ModelFileError : InputError {
  using InputError::InputError;
};

inline bool is_about_a_model(const InputError& error) {
  return dynamic_cast<const SpecError*>(&error) || dynamic_cast<const ModelFileError*>(&error);
}

// `engine` is the component of the CMake package that compiles it in.
struct MissingEngineError : YowoError {
  explicit MissingEngineError(const std::string& what, const std::string& engine)
      : YowoError(what + " is not compiled in: find_package(yowo_deploy CONFIG COMPONENTS " + engine + ")") {}
};

namespace detail {

// All parts one after the other, as a stream writes them.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  stream.imbue(std::locale::classic());
  (stream << ... << parts);
  return stream.str();
}

// "8, 3, 2" of any list.
template <class List>
std::string listed(const List& values) {
  std::string all;
  for (const auto& value : values) all += (all.empty() ? "" : ", ") + text(value);
  return all;
}

}  // namespace detail
}  // namespace yowo
