// Types and shapes of what each operator puts out.
// `_Inference` in `yowo_deploy/model_files/onnx_shapes.py` has the same rules.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <numeric>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "yowo/errors.hpp"
#include "yowo/model_files/onnx_graph.hpp"

namespace yowo::detail {

inline constexpr std::uint64_t onnx_max_input = 1 << 28;  // numbers: what a spec allows a clip

class OnnxOperators {
 public:
  std::unordered_map<std::string, const OnnxTensor*> constants;
  std::uint64_t work = 0;  // multiply-adds of the nodes so far

  // Throws InputError: the node cannot take these.
  std::vector<OnnxKnown> outputs(const OnnxNode& node, const std::vector<OnnxKnown>& inputs) {
    const std::uint64_t type = output_type(node, inputs);
    std::vector<OnnxKnown> made;
    if (node.operation == "Split")
      for (Sides& part : split(node, inputs[0].shape)) made.push_back({type, std::move(part)});
    else
      made.push_back({type, shape(node, inputs)});
    return made;
  }

 private:
  // Its inputs have the types that its operator computes with.
  static std::uint64_t output_type(const OnnxNode& node, const std::vector<OnnxKnown>& inputs) {
    const std::string& operation = node.operation;
    const std::uint64_t type = inputs[0].type;
    const auto other = [&](std::size_t at) { return inputs[at].type; };
    if (operation == "DequantizeLinear") {
      require((type == onnx_uint8 || type == onnx_int8 || type == onnx_int32) && is_float(other(1)) &&
              (inputs.size() < 3 || other(2) == type));
      return other(1);
    }
    require(is_data(type));
    if (operation == "QuantizeLinear") {
      require(is_float(type) && other(1) == type);
      if (inputs.size() < 3) return onnx_uint8;
      require(other(2) == onnx_uint8 || other(2) == onnx_int8);
      return other(2);
    }
    if (operation == "Cast") {
      const auto to = unsigned_of(whole(node, "to", 0));
      require(is_float(to));
      return to;
    }
    const bool shaped =
        is_one_of(operation, {"ReduceMean", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Unsqueeze"});
    for (std::size_t at = operation == "Pad" ? 2 : 1; at < inputs.size() && !shaped; ++at)
      require(other(at) == type || !other(at));
    require(is_float(type) || (shaped && operation != "ReduceMean" && operation != "Resize") ||
            is_one_of(operation, {"Concat", "Identity", "Max", "MaxPool", "Pad", "SpaceToDepth", "Transpose"}));
    return type;
  }

  Sides shape(const OnnxNode& node, const std::vector<OnnxKnown>& inputs) {
    const std::string& operation = node.operation;
    const Sides& first = inputs[0].shape;
    if (operation == "Softmax") axis(node, -1, rank(first));
    if (is_one_of(operation,
                  {"Exp", "Relu", "LeakyRelu", "HardSwish", "Identity", "Neg", "Sigmoid", "Softmax", "Tanh"}))
      return first;
    if (is_one_of(operation, {"Add", "Sub", "Mul", "Div", "Max", "Sum"})) {
      Sides made = first;
      for (const OnnxKnown& each : inputs) made = broadcast(made, each.shape);
      return made;
    }
    if (is_one_of(operation, {"Cast", "Clip", "QuantizeLinear", "DequantizeLinear", "BatchNormalization"}))
      return elementwise(node, inputs);
    if (operation == "Attention") return attention(node, inputs);
    if (operation == "Concat") return concat(node, inputs);
    if (operation == "Conv") return conv(node, inputs);
    if (operation == "MatMul") return matmul(first, inputs[1].shape);
    if (operation == "AveragePool" || operation == "MaxPool") return pool(node, first);
    if (operation == "Pad") return pad(node, inputs);
    if (operation == "ReduceMean") return without(first, axes(node, rank(first)), whole(node, "keepdims", 1) != 0);
    if (operation == "Reshape") return reshape(node, first);
    if (operation == "Resize") return resize(node, first);
    if (operation == "Slice") return slice(node, first);
    if (operation == "SpaceToDepth") return space_to_depth(node, first);
    if (operation == "Squeeze") return squeeze(node, first);
    if (operation == "Transpose") return transpose(node, first);
    if (operation == "Unsqueeze") return unsqueeze(node, first);
    impossible();
  }

  const OnnxTensor& constant(const OnnxNode& node, std::size_t index) const {
    const auto found = constants.find(node.inputs[index]);
    require(found != constants.end());
    return *found->second;
  }
  // The constant whole numbers of an input.
  Sides integers(const OnnxNode& node, std::size_t index) const {
    const OnnxTensor& tensor = constant(node, index);
    require(tensor.type == onnx_int64 && tensor.shape.size() == 1 && tensor.shape[0] <= 1024);
    return tensor.integers();
  }
  static bool given(const OnnxNode& node, std::size_t index) {
    return index < node.inputs.size() && !node.inputs[index].empty();
  }
  Sides needed(const OnnxNode& node, std::size_t index) const {
    require(given(node, index));
    Sides found = integers(node, index);
    require(!found.empty());
    return found;
  }
  Sides axes(const OnnxNode& node, std::int64_t rank) const {
    Sides found = given(node, 1) ? integers(node, 1) : list(node, "axes", {});
    require(!found.empty());
    std::uint64_t seen = 0;
    for (std::int64_t& each : found) {
      require(-rank <= each && each < rank);
      each += each < 0 ? rank : 0;
      require(!(seen >> each & 1));
      seen |= std::uint64_t{1} << each;
    }
    return found;
  }
  static bool contains(const Sides& axes, std::size_t at) {
    return std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(at)) != axes.end();
  }

  static Sides broadcast(const Sides& one, const Sides& other) {
    const Sides &longer = one.size() < other.size() ? other : one, &shorter = one.size() < other.size() ? one : other;
    Sides made = longer;
    for (std::size_t at = 0, shift = longer.size() - shorter.size(); at < shorter.size(); ++at) {
      std::int64_t& side = made[at + shift];
      require(side == shorter[at] || side == 1 || shorter[at] == 1);
      side = std::max(side, shorter[at]);
    }
    return made;
  }

  // Others are of one number, or one for each along an axis.
  static Sides elementwise(const OnnxNode& node, const std::vector<OnnxKnown>& inputs) {
    const Sides& first = inputs[0].shape;
    Sides along;
    if ((!first.empty() && node.operation == "QuantizeLinear") || first.size() > 1)
      along = {first[axis(node, 1, rank(first))]};
    else
      along = first;
    for (std::size_t at = 1; at < inputs.size(); ++at)
      require(product(inputs[at].shape) == 1 || inputs[at].shape == along);
    return first;
  }

  // How many windows fit on each axis behind the second.
  static void append_windows(Sides& made, const OnnxNode& node, const Sides& first, const Sides& kernel) {
    const std::size_t count = first.size() - 2;
    const Sides strides = list(node, "strides", Sides(count, 1)), pads = list(node, "pads", Sides(2 * count, 0)),
                dilations = list(node, "dilations", Sides(count, 1));
    require(kernel.size() == count && strides.size() == count && dilations.size() == count && pads.size() == 2 * count);
    for (std::size_t at = 0; at < count; ++at) {
      const std::int64_t reach = dilations[at] * (kernel[at] - 1) + 1;
      const std::int64_t all = first[at + 2] + pads[at] + pads[at + count];
      require(pads[at] < reach && pads[at + count] < reach && reach <= all);
      made.push_back((all - reach) / strides[at] + 1);
    }
  }

  Sides conv(const OnnxNode& node, const std::vector<OnnxKnown>& inputs) {
    const Sides &first = inputs[0].shape, &weight = inputs[1].shape;
    const std::int64_t group = whole(node, "group", 1);
    require(first.size() >= 3 && first.size() <= 5 && weight.size() == first.size());
    require(first[1] == weight[1] * group && weight[0] % group == 0);
    require(inputs.size() < 3 || inputs[2].shape == Sides{weight[0]});
    const Sides kernel(weight.begin() + 2, weight.end());
    require(list(node, "kernel_shape", kernel) == kernel);
    Sides made{first[0], weight[0]};
    append_windows(made, node, first, kernel);
    work += times(product(made), product(weight, 1));
    return made;
  }

  Sides pool(const OnnxNode& node, const Sides& first) {
    require(first.size() >= 3 && first.size() <= 5);
    const Sides kernel = list(node, "kernel_shape", {});
    Sides made{first[0], first[1]};
    append_windows(made, node, first, kernel);
    work += times(product(made), product(kernel));
    return made;
  }

  Sides matmul(const Sides& first, const Sides& second) {
    require(first.size() >= 2 && second.size() >= 2 && first.back() == second[second.size() - 2]);
    Sides made = broadcast({first.begin(), first.end() - 2}, {second.begin(), second.end() - 2});
    made.insert(made.end(), {first[first.size() - 2], second.back()});
    work += times(product(made), unsigned_of(first.back()));
    return made;
  }

  // Of (B, L, E) queries, (B, S, E) keys and (B, S, V) values.
  Sides attention(const OnnxNode& node, const std::vector<OnnxKnown>& inputs) {
    const Sides &first = inputs[0].shape, &keys = inputs[1].shape, &values = inputs[2].shape;
    require(first.size() == 3 && keys.size() == 3 && values.size() == 3);
    const std::int64_t heads = whole(node, "q_num_heads", 1);
    require(heads == whole(node, "kv_num_heads", 1) && first[2] % heads == 0 && values[2] % heads == 0);
    require(first[0] == keys[0] && first[0] == values[0] && first[2] == keys[2] && keys[1] == values[1]);
    const std::uint64_t scores = product({first[0], first[1], keys[1]});
    require(times(scores, unsigned_of(heads)) <= onnx_max_input);
    work += times(scores, unsigned_of(first[2] + values[2]));
    return {first[0], first[1], values[2]};
  }

  static Sides concat(const OnnxNode& node, const std::vector<OnnxKnown>& inputs) {
    Sides made = inputs[0].shape;
    const std::size_t along = axis(node, 0, rank(made));
    for (std::size_t number = 1; number < inputs.size(); ++number) {
      const Sides& other = inputs[number].shape;
      require(other.size() == made.size());
      for (std::size_t at = 0; at < made.size(); ++at) require(at == along || made[at] == other[at]);
      made[along] += other[along];
    }
    return made;
  }

  Sides pad(const OnnxNode& node, const std::vector<OnnxKnown>& inputs) const {
    Sides made = inputs[0].shape;
    const Sides pads = needed(node, 1);
    require(pads.size() == 2 * made.size());
    require(inputs.size() < 3 || inputs[2].shape.empty() || inputs[2].shape == Sides{1});
    for (std::size_t at = 0; at < pads.size(); ++at) {
      require(pads[at] >= 0 && pads[at] <= 1024);
      made[at % made.size()] += pads[at];
    }
    return made;
  }

  static Sides without(const Sides& first, const Sides& axes, bool keep) {
    Sides made;
    for (std::size_t at = 0; at < first.size(); ++at)
      if (!contains(axes, at) || keep) made.push_back(contains(axes, at) ? 1 : first[at]);
    return made;
  }

  Sides squeeze(const OnnxNode& node, const Sides& first) const {
    const Sides gone = axes(node, rank(first));
    for (const std::int64_t at : gone) require(first[place(at)] == 1);
    return without(first, gone, false);
  }

  Sides unsqueeze(const OnnxNode& node, const Sides& first) const {
    const std::size_t count = first.size() + needed(node, 1).size();
    require(count <= 8);
    const Sides added = axes(node, static_cast<std::int64_t>(count));
    Sides made;
    auto side = first.begin();
    for (std::size_t at = 0; at < count; ++at) made.push_back(contains(added, at) ? 1 : *side++);
    return made;
  }

  Sides reshape(const OnnxNode& node, const Sides& first) const {
    Sides made = needed(node, 1);
    const std::uint64_t count = product(first);
    require(made.size() <= 8 && std::count(made.begin(), made.end(), -1) <= 1);
    require(*std::min_element(made.begin(), made.end()) >= -1);
    require(!std::count(made.begin(), made.end(), 0) || !whole(node, "allowzero", 0));
    std::uint64_t rest = 1;
    for (std::size_t at = 0; at < made.size(); ++at) {
      if (!made[at]) require(at < first.size()), made[at] = first[at];
      if (made[at] > 0) rest = times(rest, unsigned_of(made[at]));
    }
    for (std::int64_t& side : made)
      if (side < 0) side = static_cast<std::int64_t>(count / rest);
    require(product(made) == count);
    return made;
  }

  Sides resize(const OnnxNode& node, const Sides& first) const {
    Sides made;
    require(node.inputs[1].empty());
    if (given(node, 3)) {
      require(node.inputs[2].empty());
      made = integers(node, 3);
      require(made.size() == first.size());
    } else {
      const OnnxTensor& scales = constant(node, 2);
      require(scales.type == onnx_float32 && scales.shape == Sides{rank(first)});
      for (std::size_t at = 0; at < first.size(); ++at) {
        float scale = 0;
        std::memcpy(&scale, scales.values.data() + 4 * at, 4);
        require(scale > 0 && scale <= 64);
        made.push_back(static_cast<std::int64_t>(std::floor(static_cast<double>(first[at]) * scale)));
      }
    }
    require(!first.empty() && made[0] == first[0]);
    for (const std::int64_t side : made) require(side > 0 && side <= 1 << 16);
    return made;
  }

  Sides slice(const OnnxNode& node, const Sides& first) const {
    const Sides starts = needed(node, 1), ends = needed(node, 2);
    Sides along = given(node, 3) ? integers(node, 3) : Sides{}, steps = given(node, 4) ? integers(node, 4) : Sides{};
    if (along.empty()) along.resize(starts.size()), std::iota(along.begin(), along.end(), 0);
    if (steps.empty()) steps.assign(starts.size(), 1);
    require(ends.size() == starts.size() && along.size() == starts.size() && steps.size() == starts.size());
    Sides made = first;
    std::uint64_t seen = 0;
    for (std::size_t number = 0; number < starts.size(); ++number) {
      require(-rank(first) <= along[number] && along[number] < rank(first));
      const std::size_t at = place(along[number] + (along[number] < 0 ? rank(first) : 0));
      require(!(seen >> at & 1));
      seen |= std::uint64_t{1} << at;
      made[at] = sliced(first[at], starts[number], ends[number], steps[number]);
    }
    return made;
  }

  // How many of so many sides lie between, as Python's slices count them.
  static std::int64_t sliced(std::int64_t side, std::int64_t start, std::int64_t end, std::int64_t step) {
    require(step != 0 && step >= -(1 << 16) && step <= 1 << 16);
    const std::int64_t low = step < 0 ? -1 : 0, high = step < 0 ? side - 1 : side;
    const auto clamped = [&](std::int64_t at) { return std::clamp(at < 0 ? at + side : at, low, high); };
    const std::int64_t length = step < 0 ? clamped(start) - clamped(end) : clamped(end) - clamped(start);
    return length <= 0 ? 0 : (length - 1) / std::abs(step) + 1;
  }

  std::vector<Sides> split(const OnnxNode& node, const Sides& first) const {
    const std::size_t along = axis(node, 0, rank(first));
    Sides sizes;
    if (given(node, 1)) {
      sizes = integers(node, 1);
    } else {  // equal parts, of which the last may be smaller
      const std::int64_t count = whole(node, "num_outputs", static_cast<std::int64_t>(node.outputs.size()));
      const std::int64_t part = (first[along] + count - 1) / count;
      for (std::int64_t at = 0; at < count; ++at) sizes.push_back(std::min(part, first[along] - part * at));
    }
    require(sizes.size() == node.outputs.size());
    std::int64_t left = first[along];
    std::vector<Sides> made;
    for (const std::int64_t size : sizes) {
      require(size > 0 && size <= left);
      left -= size;
      made.push_back(first);
      made.back()[along] = size;
    }
    require(!left);
    return made;
  }

  static Sides space_to_depth(const OnnxNode& node, const Sides& first) {
    const std::int64_t block = whole(node, "blocksize", 1);
    require(first.size() == 4 && first[2] % block == 0 && first[3] % block == 0);
    return {first[0], first[1] * block * block, first[2] / block, first[3] / block};
  }

  static Sides transpose(const OnnxNode& node, const Sides& first) {
    Sides order(first.size()), made;
    std::iota(order.begin(), order.end(), 0);
    const Sides whole_order = order;
    std::reverse(order.begin(), order.end());
    order = list(node, "perm", order);
    Sides sorted = order;
    std::sort(sorted.begin(), sorted.end());
    require(sorted == whole_order);
    for (const std::int64_t at : order) made.push_back(first[place(at)]);
    return made;
  }
};

}  // namespace yowo::detail
