// What the tests share: files, golden data, and a small model.
#pragma once

#include <cstddef>
#include <fstream>
#include <iterator>
#include <string>

#include "check.hpp"
#include "yowo/json.hpp"
#include "yowo/spec.hpp"

namespace golden {

inline std::string file_text(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// NAME.json of the folder that is the first argument.
inline yowo::Json read(const check::Arguments& arguments, const std::string& name) {
  return yowo::Json::parse(file_text(arguments.at(0) + "/" + name + ".json"));
}

inline int whole(const yowo::Json& value) { return static_cast<int>(value.number); }

inline std::string place(std::size_t index, const std::string& what) {
  return "case " + std::to_string(index) + ", " + what;
}

inline yowo::ModelSpec small_spec() {
  yowo::ModelSpec spec;
  spec.labels = {"walk", "sit", "stand"};
  spec.anchors = {{1.5, 1.0}, {0.5, 2.0}};
  spec.clip_length = 3, spec.frame_stride = 2, spec.input_size = {8, 4}, spec.stride = 2;
  spec.check();
  return spec;
}

}  // namespace golden
