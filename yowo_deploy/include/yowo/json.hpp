// A JSON reader and writer, as much of it as specs, plan records and results need.
#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "yowo/errors.hpp"

namespace yowo {

// One value. Numbers are doubles; `integral` tells "8" from "8.0".
struct Json {
  enum class Kind { null, boolean, number, text, list, object };

  Kind kind = Kind::null;
  bool boolean = false;
  bool integral = false;
  double number = 0;
  std::string text;
  std::vector<Json> items;         // of a list, or the values of an object
  std::vector<std::string> names;  // of an object, in the order of `items`; none twice

  // The value of a name, or nullptr.
  const Json* find(std::string_view name) const {
    for (std::size_t at = 0; at < names.size(); ++at)
      if (names[at] == name) return &items[at];
    return nullptr;
  }

  const Json& at(std::string_view name) const&& = delete;
  const Json& at(std::string_view name) const& {
    const Json* found = find(name);
    if (!found) throw InputError("the JSON object lacks '" + std::string(name) + "'");
    return *found;
  }

  // Throws InputError: no JSON, not UTF-8, more than `max_depth` or `max_names`, a name twice in one object, of which
  // readers take either, or a number beyond all doubles.
  static Json parse(std::string_view text);

  static constexpr int max_depth = 32;
  static constexpr std::size_t max_names = 255;  // in one object: they are searched one by one
};

namespace detail {

// The code point that begins at `at`, which moves behind it; -1 where the bytes are not UTF-8.
inline long utf8_next(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t index) { return static_cast<unsigned char>(text[index]); };
  const unsigned first = byte(at);
  if (first < 0x80) return ++at, static_cast<long>(first);
  const std::size_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
  if (first < 0xC2 || first > 0xF4 || text.size() - at <= more) return -1;
  unsigned long code = first & (0x3Fu >> more);
  for (std::size_t step = 1; step <= more; ++step) {
    if ((byte(at + step) & 0xC0) != 0x80) return -1;
    code = code << 6 | (byte(at + step) & 0x3F);
  }
  constexpr unsigned long least[] = {0, 0x80, 0x800, 0x10000};
  if (code < least[more] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return -1;
  at += more + 1;
  return static_cast<long>(code);
}

inline void append_utf8(std::string& text, unsigned long code) {
  const auto put = [&](unsigned long byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
  const std::size_t more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  constexpr unsigned long lead[] = {0, 0xC0, 0xE0, 0xF0};
  put(lead[more] | code >> 6 * more);
  for (std::size_t left = more; left-- > 0;) put(0x80 | (code >> 6 * left & 0x3F));
}

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  Json document() {
    Json value = next(0);
    skip_space();
    if (at_ < text_.size()) fail("nothing more");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* expected) const {
    throw InputError(detail::text("expected ", expected, " at byte ", at_, " of ", text_.size()));
  }

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }

  bool take(char wanted) {
    skip_space();
    const bool there = at_ < text_.size() && text_[at_] == wanted;
    at_ += there;
    return there;
  }

  Json next(int depth) {
    if (depth > Json::max_depth) fail("no deeper lists");
    Json value;
    if (take('{')) {
      value.kind = Json::Kind::object;
      fill(value, '}', depth);
    } else if (take('[')) {
      value.kind = Json::Kind::list;
      fill(value, ']', depth);
    } else if (take('"')) {
      value.kind = Json::Kind::text;
      value.text = string();
    } else if (word("true") || word("false")) {
      value.kind = Json::Kind::boolean;
      value.boolean = text_[at_ - 2] == 'u';
    } else if (!word("null")) {
      value.kind = Json::Kind::number;
      number(value);
    }
    return value;
  }

  void fill(Json& value, char end, int depth) {
    if (take(end)) return;
    do {
      if (value.kind == Json::Kind::object) {
        if (!take('"')) fail("a name");
        std::string name = string();
        if (!take(':')) fail("':'");
        if (value.names.size() > Json::max_names) fail("fewer names");
        if (value.find(name)) fail("no name twice");
        value.names.push_back(std::move(name));
      }
      value.items.push_back(next(depth + 1));
    } while (take(','));
    if (!take(end)) fail(end == '}' ? "',' or '}'" : "',' or ']'");
  }

  bool word(std::string_view wanted) {
    const bool there = text_.substr(at_, wanted.size()) == wanted;
    if (there) at_ += wanted.size();
    return there;
  }

  std::string string() {
    std::string made;
    for (;;) {
      if (at_ >= text_.size()) fail("the end of a text");
      const char here = text_[at_];
      if (here == '"') return ++at_, made;
      if (static_cast<unsigned char>(here) < 0x20) fail("no control character in a text");
      if (here == '\\') {
        ++at_;
        escape(made);
        continue;
      }
      const std::size_t start = at_;
      if (utf8_next(text_, at_) < 0) fail("UTF-8");
      made.append(text_.substr(start, at_ - start));
    }
  }

  void escape(std::string& made) {
    constexpr std::string_view letters = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
    const char letter = at_ < text_.size() ? text_[at_++] : '\0';
    if (const std::size_t index = letters.find(letter); letter && index != std::string_view::npos) {
      made += meant[index];
      return;
    }
    if (letter != 'u') fail("an escape that JSON has");
    unsigned long code = hexadecimal();
    if (code >= 0xD800 && code < 0xDC00 && word("\\u")) {
      const unsigned long low = hexadecimal();
      code = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00) : code;
    }
    if (code >= 0xD800 && code < 0xE000) fail("two halves of a character");
    append_utf8(made, code);
  }

  unsigned long hexadecimal() {
    unsigned long code = 0;
    const std::string_view digits = text_.substr(at_, 4);
    const char* const end = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16).ptr;
    if (end != digits.data() + 4) fail("four hexadecimal digits");
    return at_ += 4, code;
  }

  bool digits() {
    const std::size_t start = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    return at_ > start;
  }

  void number(Json& value) {
    const std::size_t start = at_;
    word("-");
    if (!word("0") && !digits()) fail("a value");
    if (word(".") && !digits()) fail("a digit");
    if (word("e") || word("E")) {
      if (!word("+")) word("-");
      if (!digits()) fail("a digit");
    }
    const std::string digits_read(text_.substr(start, at_ - start));
    value.integral = digits_read.find_first_of(".eE") == std::string::npos;
    std::istringstream stream{digits_read};
    stream.imbue(std::locale::classic());
    // Too small a number fails as well where the library says so, and is 0 then, or as small as can be.
    if (!(stream >> value.number) && std::abs(value.number) > 1) fail("a number that a double can hold, before this");
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace detail

inline Json Json::parse(std::string_view text) { return detail::JsonReader(text).document(); }

// Appends `text` to JSON as a string; bytes that are no UTF-8, as names of files may hold, as Python escapes them.
inline void append_json_text(std::string& json, std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef", escaped = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt";
  json += '"';
  for (std::size_t place = 0; place < text.size();) {
    const std::size_t start = place;
    const auto byte = static_cast<unsigned char>(text[start]);
    const bool whole = detail::utf8_next(text, place) >= 0;
    place = whole ? place : start + 1;
    if (const std::size_t at = escaped.find(text[start]); at != std::string_view::npos)
      (json += '\\') += letters[at];
    else if (!whole || byte < 0x20)
      ((json += whole ? "\\u00" : "\\udc") += digits[byte >> 4]) += digits[byte & 15];
    else
      json += text.substr(start, place - start);
  }
  json += '"';
}

}  // namespace yowo
