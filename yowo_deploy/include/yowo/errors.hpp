// The tree of errors that the runtime throws.
//
//     YowoError
//     ├── InputError                 the user's file, option or frame is not what it should be
//     │   ├── SpecError              a model's description is missing, broken or of a newer format
//     │   └── ModelFileError         an ONNX file or a plan cannot be used
//     └── MissingEngineError         an engine was not compiled in
//
// A message says what was found, what was expected, and what to do.
#pragma once

#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>

namespace yowo {

// The root: catch it to catch all of them.
struct YowoError : std::runtime_error {
  using std::runtime_error::runtime_error;
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
