// The operators that our exporter writes: their inputs, outputs and the ranges of their attributes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "yowo/errors.hpp"

namespace yowo::detail {

// As OPERATOR_RULES in `yowo_deploy/model_files/onnx_operators.py`, where its form is said.
inline constexpr std::string_view onnx_language = R"(
Add 2:2 1:1
Attention 3:3 1:1 scale=f q_num_heads!=1:64 kv_num_heads!=1:64
AveragePool 1:1 1:1 auto_pad=NOTSET ceil_mode=0:0 count_include_pad=0:1 dilations=*1:1
  kernel_shape!=*1:1024 pads=*0:512 strides=*1:1024
BatchNormalization 5:5 1:1 epsilon=f momentum=f training_mode=0:0
Cast 1:1 1:1 to!=1:16 saturate=0:1
Clip 1:3 1:1
Concat 1:1024 1:1 axis!=-8:7
Conv 2:3 1:1 auto_pad=NOTSET dilations=*1:64 group=1:65536 kernel_shape=*1:1024 pads=*0:512 strides=*1:1024
DequantizeLinear 2:3 1:1 axis=-8:7 block_size=0:0
Div 2:2 1:1
Exp 1:1 1:1
HardSwish 1:1 1:1
Identity 1:1 1:1
LeakyRelu 1:1 1:1 alpha=f
MatMul 2:2 1:1
Max 1:1024 1:1
MaxPool 1:1 1:1 auto_pad=NOTSET ceil_mode=0:0 dilations=*1:1 kernel_shape!=*1:1024 pads=*0:512
  storage_order=0:0 strides=*1:1024
Mul 2:2 1:1
Neg 1:1 1:1
Pad 2:3 1:1 mode=constant
QuantizeLinear 2:3 1:1 axis=-8:7 block_size=0:0 saturate=0:1
ReduceMean 1:2 1:1 axes=*-8:7 keepdims=0:1 noop_with_empty_axes=0:0
Relu 1:1 1:1
Reshape 2:2 1:1 allowzero=0:1
Resize 3:4 1:1 antialias=0:0 coordinate_transformation_mode=half_pixel cubic_coeff_a=f
  exclude_outside=0:0 extrapolation_value=f keep_aspect_ratio_policy=stretch mode=linear,nearest
  nearest_mode=floor
Sigmoid 1:1 1:1
Slice 3:5 1:1
Softmax 1:1 1:1 axis=-8:7
SpaceToDepth 1:1 1:1 blocksize!=1:64
Split 1:2 1:1024 axis=-8:7 num_outputs=1:1024
Squeeze 1:2 1:1
Sub 2:2 1:1
Sum 1:1024 1:1
Tanh 1:1 1:1
Transpose 1:1 1:1 perm=*0:7
Unsqueeze 2:2 1:1
)";

// Of a node; numbers are one or a list of them.
struct OnnxAttribute {
  std::string name, text;
  std::uint64_t type = 0;
  std::vector<std::int64_t> numbers;
  bool finite = true;
};


inline bool within(std::int64_t value, const std::string& range) {
  const std::size_t colon = range.find(':');
  return value >= std::stoll(range.substr(0, colon)) && value <= std::stoll(range.substr(colon + 1));
}
inline bool fits(const OnnxAttribute& attribute, std::string allowed) {
  const auto& numbers = attribute.numbers;
  if (allowed == "f") return attribute.type == 1 && attribute.finite;
  if (allowed.find(':') == std::string::npos)
    return attribute.type == 3 && ("," + allowed + ",").find("," + attribute.text + ",") != std::string::npos;
  if (attribute.type != (allowed[0] == '*' ? 7u : 2u) || numbers.size() > 16) return false;
  allowed.erase(0, allowed.find_first_not_of('*'));
  return std::all_of(numbers.begin(), numbers.end(), [&](std::int64_t each) { return within(each, allowed); });
}

// Why a node is not of the language; "" where it is.
inline std::string outside_language(const std::string& operation, const std::vector<std::string>& inputs,
           const std::vector<std::string>& outputs, const std::vector<OnnxAttribute>& attributes) {
  const std::size_t at = onnx_language.find("\n" + operation + " ");
  if (operation.empty() || operation.find_first_of(" \n") != std::string::npos || at == std::string_view::npos)
    return "uses the operator '" + operation.substr(0, 60) + "', which no YOWO graph has, so it is refused";
  std::size_t end = onnx_language.find('\n', at + 1);
  while (onnx_language.substr(end + 1, 1) == " ") end = onnx_language.find('\n', end + 1);
  std::istringstream words(std::string(onnx_language.substr(at, end - at)));
  std::string word, many, some;
  words >> word >> many >> some;
  const bool optional = operation == "Clip" || operation == "Resize";
  bool right = within(static_cast<std::int64_t>(inputs.size()), many) && !inputs[0].empty() &&
               within(static_cast<std::int64_t>(outputs.size()), some);
  for (const std::string& each : inputs) right = right && (optional || !each.empty());
  if (!right)
    return text("gives ", operation, " ", inputs.size(), " inputs and ", outputs.size(), " outputs, so it is refused");
  std::size_t known = 0;
  while (words >> word) {
    const std::size_t equals = word.find('=');
    const bool needed = word[equals - 1] == '!';
    const std::string key = word.substr(0, equals - needed);
    std::size_t count = 0;
    for (const OnnxAttribute& each : attributes)
      if (each.name == key && ++count && !fits(each, word.substr(equals + 1)))
        return "gives " + operation + " the attribute '" + key + "', which no YOWO graph does, so it is refused";
    if (count > 1) return "gives " + operation + " an attribute twice, so it is refused";
    if (needed && !count) return "gives " + operation + " no attribute '" + key + "', so it is refused";
    known += count;
  }
  if (known != attributes.size()) return "gives " + operation + " an attribute that no YOWO graph has: refused";
  return "";
}

}  // namespace yowo::detail
