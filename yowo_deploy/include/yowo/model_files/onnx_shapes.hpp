// Shapes of all values of a graph, and bounds on what an engine would make of it, found before any engine.
// `yowo_deploy/model_files/onnx_shapes.py` is the same, with the same verdicts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "yowo/errors.hpp"
#include "yowo/model_files/onnx_graph.hpp"
#include "yowo/model_files/onnx_operators.hpp"

namespace yowo::detail {

class OnnxShapes {
 public:
  using Values = std::unordered_map<std::string, OnnxKnown>;

  OnnxShapes(const OnnxGraph& graph, std::int64_t batch) : graph_(graph), batch_(batch) {}

  // Type and shape of every value for this batch. Throws InputError, whose message lacks the name of the file.
  Values run() {
    std::uint64_t weights = 0;
    for (const auto& [name, tensor] : graph_.tensors) {
      make(name, {tensor.type, tensor.shape});
      operators_.constants[name] = &tensor;
      weights += product(tensor.shape);
    }
    const std::uint64_t given = take_inputs(), base = std::max(given, floor_of_numbers * unsigned_of(batch_));
    if (!given || given > onnx_max_input) 
      refuse(text("takes ", given, " numbers, more than those of any clip, so it is refused"));
    const std::uint64_t most = std::max(16 * base, weights), most_in_all = 240 * base + 4 * weights;
    std::uint64_t total = 0;
    for (const OnnxNode& node : graph_.nodes) {
      const std::vector<OnnxKnown> made = outputs(node);
      for (std::size_t at = 0; at < node.outputs.size(); ++at) {
        if (at >= made.size()) impossible();
        make(node.outputs[at], made[at]);
        const std::uint64_t count = product(made[at].shape);
        total += count;
        if (count > most || total > most_in_all || operators_.work > 60000 * base)
          refuse(text("makes values of ", count, " numbers, ", total, " in all, from ", given,
                      " numbers: more than any YOWO graph, so it is refused"));
      }
    }
    std::set<std::string> names;
    for (const OnnxValue& value : graph_.outputs)
      if (!names.insert(value.name).second) refuse("outputs a value twice, so it is refused");
    for (const OnnxValue& value : graph_.outputs)
      if (!known_.count(value.name)) refuse("outputs a value that nothing makes, so it is refused");
    return std::move(known_);
  }

 private:
  static constexpr std::uint64_t floor_of_numbers = 1 << 20;

  [[noreturn]] static void refuse(const std::string& why) { throw InputError(why); }

  std::uint64_t take_inputs() {
    std::uint64_t given = 0;
    for (const OnnxValue& value : graph_.inputs) {
      if (operators_.constants.count(value.name)) refuse("has an input that is a weight too, so it is refused");
      if (!value.shaped || value.shape.empty() || value.shape.size() > 6 || !is_data(value.type))
        refuse("has an input without type or shape, so it is refused");
      Sides shape = value.shape;
      if (shape[0] < 0) shape[0] = batch_;
      for (const std::int64_t side : shape)
        if (side < 0) refuse("has an input with an open side that is not its batch, so it is refused");
      given = std::min(given + product(shape), onnx_max_input + 1);
      make(value.name, {value.type, std::move(shape)});
    }
    return given;
  }

  void make(const std::string& name, OnnxKnown known) {
    if (name.empty() || known.shape.size() > 8 || std::count(known.shape.begin(), known.shape.end(), 0) ||
        !known_.emplace(name, std::move(known)).second)
      refuse("makes a value twice, or without a number in it, so it is refused");
  }

  std::vector<OnnxKnown> outputs(const OnnxNode& node) {
    std::vector<OnnxKnown> inputs;
    for (const std::string& name : node.inputs) {
      const auto found = known_.find(name);
      if (!name.empty() && found == known_.end()) refuse("reads a value that nothing before makes, so it is refused");
      inputs.push_back(name.empty() ? OnnxKnown{} : found->second);
    }
    return operators_.outputs(node, inputs);
  }

  const OnnxGraph& graph_;
  std::int64_t batch_;
  OnnxOperators operators_;
  Values known_;
};

// Refuse a graph that is impossible, or of which an engine would make too much: for one clip, and in proportion for
// more where the batch is open. Types and shapes of all values, for one clip. Throws InputError, whose message lacks
// the name of the file.
inline OnnxShapes::Values check_onnx_shapes(const OnnxGraph& graph) {
  OnnxShapes::Values one = OnnxShapes(graph, 1).run();
  const bool open = std::any_of(graph.inputs.begin(), graph.inputs.end(),
                                [](const OnnxValue& value) { return value.shape[0] < 0; });
  if (!open) return one;
  for (const auto& [name, found] : OnnxShapes(graph, 2).run()) {
    Sides linear = one.at(name).shape;
    if (linear == found.shape) continue;
    if (!linear.empty()) linear[0] *= 2;
    if (linear != found.shape)
      throw InputError("makes values that do not grow in proportion with the batch, so it is refused");
  }
  return one;
}

// The value of this name among inputs or outputs, as streaming files have it, else the first.
inline OnnxKnown named(const OnnxShapes::Values& known, const std::vector<OnnxValue>& values, const char* name) {
  auto found = std::find_if(values.begin(), values.end(), [&](const OnnxValue& each) { return each.name == name; });
  if (found == values.end()) found = values.begin();
  return found == values.end() ? OnnxKnown{} : known.at(found->name);
}

}  // namespace yowo::detail
