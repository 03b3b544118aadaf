// Nodes, weights, inputs and outputs of a graph, as the gate judges them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "yowo/errors.hpp"
#include "yowo/model_files/onnx_language.hpp"

namespace yowo::detail {

using Sides = std::vector<std::int64_t>;

// onnx.proto's numbers of types.
inline constexpr std::uint64_t onnx_float32 = 1, onnx_uint8 = 2, onnx_int8 = 3, onnx_int32 = 6, onnx_int64 = 7,
                               onnx_float16 = 10, onnx_bfloat16 = 16;

struct OnnxNode {
  std::string operation;
  std::vector<std::string> inputs, outputs;
  std::vector<OnnxAttribute> attributes;
};

struct OnnxTensor {
  std::uint64_t type = 0, field = 9;  // `field` of onnx.proto holds the values: 9 raw, 4 floats, 5 and 7 varints
  Sides shape;
  std::string_view values;

  // Of floats of this size: by the bits of the exponents, which lie in the two highest bytes.
  bool is_finite(std::size_t size) const {
    const unsigned exponent = type == onnx_float16 ? 0x7C00 : 0x7F80;
    const auto byte = [&](std::size_t at) { return static_cast<unsigned>(static_cast<unsigned char>(values[at])); };
    for (std::size_t at = size; at <= values.size(); at += size)
      if (((byte(at - 1) << 8 | byte(at - 2)) & exponent) == exponent) return false;
    return true;
  }

  // The values of an int64 tensor.
  Sides integers() const {
    Sides found;
    std::string_view rest = values;
    while (!rest.empty()) {
      std::uint64_t value = 0;
      std::size_t at = 0;
      if (field == 9) {
        for (; at < 8; ++at) value |= std::uint64_t{static_cast<unsigned char>(rest[at])} << (8 * at);
      } else {
        do value |= std::uint64_t{static_cast<unsigned char>(rest[at])} % 128 << (7 * at);
        while (static_cast<unsigned char>(rest[at++]) > 127);
      }
      found.push_back(static_cast<std::int64_t>(value));
      rest.remove_prefix(at);
    }
    return found;
  }
};

// An input or output of the graph; a side that is not fixed is -1.
struct OnnxValue {
  std::string name;
  std::uint64_t type = 0;
  bool shaped = false;
  Sides shape;
};

// What is asked of a graph beyond its single nodes.
struct OnnxGraph {
  std::vector<OnnxNode> nodes;
  std::vector<std::pair<std::string, OnnxTensor>> tensors;
  std::vector<OnnxValue> inputs, outputs;
};

// Of a value.
struct OnnxKnown {
  std::uint64_t type = 0;
  Sides shape;
};

[[noreturn]] inline void impossible() {
  throw InputError("has an operator that cannot take its inputs, so it is refused");
}
inline void require(bool condition) {
  if (!condition) impossible();
}
inline std::uint64_t unsigned_of(std::int64_t value) { return static_cast<std::uint64_t>(value); }
inline std::size_t place(std::int64_t value) { return static_cast<std::size_t>(value); }
inline std::int64_t rank(const Sides& shape) { return static_cast<std::int64_t>(shape.size()); }

// Ends at 2^62: larger than any bound.
inline std::uint64_t times(std::uint64_t one, std::uint64_t other) {
  constexpr std::uint64_t limit = std::uint64_t{1} << 62;
  return other && one > limit / other ? limit : one * other;
}
inline std::uint64_t product(const Sides& shape, std::size_t from = 0) {
  std::uint64_t made = 1;
  for (std::size_t at = from; at < shape.size(); ++at) made = times(made, unsigned_of(shape[at]));
  return made;
}

inline bool is_float(std::uint64_t type) {
  return type == onnx_float32 || type == onnx_float16 || type == onnx_bfloat16;
}
inline bool is_data(std::uint64_t type) { return is_float(type) || type == onnx_uint8 || type == onnx_int8; }

inline bool is_one_of(const std::string& operation, std::initializer_list<const char*> names) {
  return std::find(names.begin(), names.end(), operation) != names.end();
}

inline const OnnxAttribute* attribute(const OnnxNode& node, const char* name) {
  for (const OnnxAttribute& each : node.attributes)
    if (each.name == name) return &each;
  return nullptr;
}
inline std::int64_t whole(const OnnxNode& node, const char* name, std::int64_t otherwise) {
  const OnnxAttribute* found = attribute(node, name);
  return found ? found->numbers.at(0) : otherwise;
}
inline Sides list(const OnnxNode& node, const char* name, const Sides& otherwise) {
  const OnnxAttribute* found = attribute(node, name);
  return found ? found->numbers : otherwise;
}
inline std::size_t axis(const OnnxNode& node, std::int64_t otherwise, std::int64_t rank) {
  const std::int64_t found = whole(node, "axis", otherwise);
  require(-rank <= found && found < rank);
  return place(found < 0 ? found + rank : found);
}

}  // namespace yowo::detail
