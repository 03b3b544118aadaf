// The spec in an ONNX file, and the gate that its bytes pass before any engine parses them.
//
// The runtimes can be crashed or hung by small crafted files, and read protobuf less strictly than a walker: a file is
// read once and walked here, and an engine is given bytes written anew from what was walked. What is not of the
// language of our exporter, or would make too much, is refused. `yowo_deploy/model_files/onnx_reader.py` is the same
// gate.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <istream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "yowo/errors.hpp"
#include "yowo/model_files/bytes.hpp"
#include "yowo/model_files/checksum.hpp"
#include "yowo/model_files/inflate.hpp"
#include "yowo/model_files/onnx_graph.hpp"
#include "yowo/model_files/onnx_language.hpp"
#include "yowo/model_files/onnx_shapes.hpp"
#include "yowo/model_files/protobuf.hpp"
#include "yowo/spec.hpp"

namespace yowo {

// An ONNX file that passed the gate.
struct OnnxFile {
  static constexpr int max_nodes = 8000;
  static constexpr std::uint64_t max_bytes = std::uint64_t{2} << 30;

  std::int64_t opset = 0;
  std::string input_type;  // of its frames or clips, in the words of the spec
  bool answers = false;    // its raw output is float32, of as many clips as go in
  bool signed_activations = false;  // some are rounded to int8, as INT8 for TensorRT has it
  std::map<std::string, std::string> metadata;
  std::string model;       // the graph as an ONNX file, for an engine: nothing is in it but what was walked
  bool streaming = false;  // it is the streaming form of a file of clips

  // `path` is for messages alone. Throws ModelFileError: no ONNX file, or not strictly written; damaged since it was
  // written; functions, subgraphs or external data; operators, attributes or shapes that no YOWO graph has; too large,
  // or what an engine would make of it is. With `streaming` it is the streaming form, where the file carries one.
  static OnnxFile read(std::istream& stream, const std::string& path, bool streaming = false);

  // The spec that it carries. Throws SpecError: none, a broken one, or that of a network which takes another type;
  // ModelFileError: its raw output is none.
  ModelSpec spec(const std::string& path) const {
    const auto found = metadata.find(ModelSpec::metadata_key);
    if (found == metadata.end())
      throw SpecError(path +
                      " carries no spec (metadata 'yowo_spec'), so labels and anchors are unknown: write the file with "
                      "`yowo-deploy export`");
    ModelSpec spec = ModelSpec::from_json(found->second);
    if (input_type != spec.input_type)
      throw SpecError(path + " takes " + input_type + ", its spec says " + spec.input_type + ": export it again");
    if (!answers)
      throw ModelFileError(path + " has a raw output that is not float32 of as many clips as go in: export it again");
    spec.streaming |= streaming;
    return spec;
  }
};

namespace detail {

// A set of numbers of fields.
inline constexpr std::uint64_t bits(std::initializer_list<int> numbers) {
  std::uint64_t made = 0;
  for (const int number : numbers) made |= std::uint64_t{1} << number;
  return made;
}
class OnnxWalk {
 public:
  explicit OnnxWalk(std::string path) : path_(std::move(path)) {}

  using Messages = std::vector<std::pair<std::string, std::string_view>>;

  // `shared` are tensors by name that the graph reads and does not hold itself.
  OnnxFile model(std::string_view content, const Messages& shared = {}) {
    OnnxFile file;
    std::string key, value, domain, graph;
    std::uint64_t version = 0, set = 0;
    each(content, {bits({1, 5}), bits({2, 3, 4, 6, 7, 8, 14, 25}), 0, bits({8, 14, 25})}, [&](const Field& field) {
      if (field.number == 1) version = small(field.value);
      if (field.number == 25) refuse("defines functions of its own; our graphs have none, so it is refused");
      if (field.number == 8) {
        domain.clear(), set = 0;
        each(field.text, {bits({2}), bits({1}), 0, 0}, [&](const Field& part) {
          if (part.number == 1) domain = utf8(part.text);
          if (part.number == 2) set = part.value;
        });
        if (!domain.empty() && domain != "ai.onnx") return;
        if (file.opset) refuse("imports the standard operators twice, so it is refused");
        file.opset = static_cast<std::int64_t>(small(set));
      }
      if (field.number == 14) {
        key.clear(), value.clear();
        each(field.text, pair, [&](const Field& part) { (part.number == 1 ? key : value) = utf8(part.text); });
        if (!file.metadata.emplace(key, value).second) refuse("has an entry of metadata twice, so it is refused");
      }
      if (field.number == 7) graph.reserve(field.text.size() + 64), append_graph(graph, field.text);
    });
    append_shared(graph, shared);
    if (graph_.nodes.empty() || !file.opset) refuse("is not an ONNX file: it holds no graph");
    try {
      const OnnxShapes::Values known = check_onnx_shapes(graph_);
      const OnnxKnown given = named(known, graph_.inputs, "frames"), raw = named(known, graph_.outputs, "raw");
      const char* other = given.type == onnx_uint8 ? "uint8" : "numbers of another type";
      file.input_type = given.type == onnx_float32 ? "float32" : other;
      for (const OnnxNode& node : graph_.nodes)
        file.signed_activations |= node.operation == "QuantizeLinear" && known.at(node.outputs[0]).type == onnx_int8;
      file.answers = raw.type == onnx_float32 && !raw.shape.empty() && raw.shape[0] == given.shape[0];
    } catch (const InputError& error) {
      refuse(error.what());
    }
    std::string head, opset;
    append_field(head, 1, version);
    append_field(opset, 2, static_cast<std::uint64_t>(file.opset));
    append_field(head, 8, opset);
    append_varint(head, 7 << 3 | 2);
    append_varint(head, graph.size());
    file.model = std::move(graph.insert(0, head));
    return file;
  }

  // The tensors by name, as they stand in what was walked.
  const Messages& tensors() const { return tensors_; }

 private:
  struct Field {
    std::uint64_t number, value;
    std::string_view text;  // of bytes and of floats
    std::uint64_t wire;
  };
  // Of a message, by their bits: the fields that are numbers, bytes and floats, and those that may be repeated.
  struct Known {
    std::uint64_t numbers, bytes, floats, repeated;
  };
  static constexpr int max_fields = 400000;  // of all messages
  static constexpr Known pair{0, 6, 0, 0};

  [[noreturn]] void refuse(const std::string& why) const { throw ModelFileError(path_ + " " + why); }
  std::uint64_t small(std::uint64_t number) const { return number > 100 ? (broken(), 0) : number; }
  [[noreturn]] void broken() const { refuse("is not an ONNX file, or is cut off"); }

  // Refuses what is longer than needed: readers cut such numbers each in their own way.
  std::uint64_t varint(std::string_view& rest) const {
    std::uint64_t value = 0;
    for (std::size_t at = 0; at < 10 && at < rest.size(); ++at) {
      const std::uint64_t byte = static_cast<unsigned char>(rest[at]);
      value |= (byte & 0x7F) << (7 * at);
      if (byte >= 0x80) continue;
      if ((at && !byte) || (at == 9 && byte > 1)) broken();
      return rest.remove_prefix(at + 1), value;
    }
    broken();
  }

  template <class Visit>
  void each(std::string_view rest, const Known& known, const Visit& visit) {
    std::uint64_t seen = 0;
    while (!rest.empty()) {
      const std::uint64_t tag = varint(rest), number = tag >> 3, wire = tag & 7;
      const std::uint64_t allowed = wire == 0 ? known.numbers : wire == 2 ? known.bytes : wire == 5 ? known.floats : 0;
      const std::uint64_t bit = number < 64 ? std::uint64_t{1} << number : 0;
      if (!(allowed & bit) || (seen & bit & ~known.repeated) || ++fields_ > max_fields) broken();
      seen |= bit;
      Field field{number, wire == 5 ? 4 : varint(rest), {}, wire};
      if (wire) {
        if (field.value > rest.size()) broken();
        field.text = rest.substr(0, static_cast<std::size_t>(field.value));
        rest.remove_prefix(field.text.size());
      }
      visit(field);
    }
  }

  static void append(std::string& made, const Field& field) {
    if (field.wire == 0) return append_field(made, field.number, field.value);
    if (field.wire == 2) return append_field(made, field.number, field.text);
    append_varint(made, field.number << 3 | 5);
    made += field.text;
  }

  std::string utf8(std::string_view bytes) const {
    for (std::size_t at = 0; at < bytes.size();)
      if (utf8_next(bytes, at) < 0) broken();
    return std::string(bytes);
  }
  std::string name(std::string_view bytes) const {
    if (bytes.size() > 1024) refuse(text("holds a name of ", bytes.size(), " bytes, so it is refused"));
    return utf8(bytes);
  }

  void append_graph(std::string& made, std::string_view message) {
    std::string part;
    each(message, {0, bits({1, 2, 5, 10, 11, 12, 13, 15, 16}), 0, bits({1, 5, 11, 12, 13, 15, 16})},
         [&](const Field& field) {
           part.clear();
           if (field.number == 15) refuse("holds sparse weights; our graphs have none, so it is refused");
           if (field.number == 1) append_node(part, field.text);
           if (field.number == 5) append_tensor(part, field.text);
           if (field.number == 11) graph_.inputs.push_back(append_value(part, field.text));
           if (field.number == 12) graph_.outputs.push_back(append_value(part, field.text));
           if (!part.empty()) append_field(made, field.number, part);
         });
    append_field(made, 2, "graph");
  }

  void append_node(std::string& made, std::string_view message) {
    if (graph_.nodes.size() == OnnxFile::max_nodes)
      refuse(text("has more than ", OnnxFile::max_nodes, " nodes, so it is refused"));
    OnnxNode& node = graph_.nodes.emplace_back();
    std::string part;
    each(message, {0, bits({1, 2, 3, 4, 5, 6, 7, 9}), 0, bits({1, 2, 5, 9})}, [&](const Field& field) {
      if (field.number == 6 || field.number == 9) return;
      if (field.number == 5) {
        part.clear();
        node.attributes.push_back(attribute(part, field.text));
        return append_field(made, 5, part);
      }
      std::string word = name(field.text);
      if (field.number == 7 && !word.empty() && word != "ai.onnx")
        refuse("uses an operator of the domain '" + word.substr(0, 60) + "', which no YOWO graph has: refused");
      if (field.number != 7) append(made, field);
      if (field.number == 4) node.operation = word;
      if (field.number == 1 || field.number == 2)
        (field.number == 1 ? node.inputs : node.outputs).push_back(std::move(word));
    });
    const std::string why = outside_language(node.operation, node.inputs, node.outputs, node.attributes);
    if (!why.empty()) refuse(why);
  }

  OnnxAttribute attribute(std::string& made, std::string_view message) {
    OnnxAttribute found;
    std::uint64_t kinds = 0;
    each(message, {bits({3, 8, 20}), bits({1, 4, 5, 6, 10, 11, 13, 22, 23}), bits({2}), bits({8, 10, 11, 23})},
         [&](const Field& field) {
           if (field.number == 6 || field.number == 11)
             refuse("nests graphs in its nodes; ours do not, so it is refused");
           if (field.number == 22 || field.number == 23)
             refuse("holds sparse weights; our graphs have none, so it is refused");
           if (field.number == 5 || field.number == 10)
             refuse(field.number == 5 ? "holds a tensor in an attribute; our graphs have none, so it is refused"
                                      : "holds tensors in an attribute; our graphs have none, so it is refused");
           if (field.number == 1) found.name = name(field.text);
           if (field.number == 2)  // the exponent of an infinity or of none at all
             found.finite = (static_cast<unsigned char>(field.text[3]) & 0x7F) != 0x7F || !(field.text[2] & 0x80);
           if (field.number == 3 || field.number == 8) found.numbers.push_back(static_cast<std::int64_t>(field.value));
           if (field.number == 4) found.text = name(field.text);
           if (field.number == 20) found.type = field.value;
           if (field.number != 1 && field.number != 13 && field.number != 20) kinds |= bits({0}) << field.number;
           if (field.number != 13) append(made, field);
         });
    const std::uint64_t own = found.type == 1   ? bits({2})
                              : found.type == 2 ? bits({3})
                              : found.type == 3 ? bits({4})
                              : found.type == 7 ? bits({8})
                                                : 0;
    if (!own || (kinds & ~own))
      refuse("holds an attribute of a type that no YOWO graph has ('" + found.name.substr(0, 60) + "'): refused");
    if (found.type == 2 && found.numbers.empty()) found.numbers.push_back(0);
    return found;
  }

  void append_shared(std::string& made, const Messages& shared) {
    std::set<std::string_view> missing;
    for (const OnnxNode& node : graph_.nodes) missing.insert(node.inputs.begin(), node.inputs.end());
    for (const auto& [name, tensor] : graph_.tensors) missing.erase(name);
    for (const auto& [name, message] : shared) {
      if (!missing.count(name)) continue;
      std::string part;
      append_tensor(part, message);
      append_field(made, 5, part);
    }
  }

  void append_tensor(std::string& made, std::string_view message) {
    auto& named = graph_.tensors.emplace_back();  // a lambda cannot take hold of the parts of a binding before C++20
    auto& label = named.first;
    auto& tensor = named.second;
    std::uint64_t count = 1, held = 0;
    std::uint64_t& type = tensor.type;
    made.reserve(message.size());
    each(message, {bits({1, 2, 14}), bits({4, 5, 7, 8, 9, 12, 13, 16}), 0, bits({1, 13, 16})}, [&](const Field& field) {
      if (field.number == 13 || (field.number == 14 && field.value))
        refuse("keeps weights in other files, ours are one file, so it is refused");
      if (field.number == 1) {
        if (field.value > std::uint64_t{1} << 31) broken();
        const bool huge = tensor.shape.size() == 8 || (count && field.value > OnnxFile::max_bytes / count);
        count = huge || count > OnnxFile::max_bytes ? OnnxFile::max_bytes * 9 : count * field.value;
        if (!huge) tensor.shape.push_back(static_cast<std::int64_t>(field.value));
      }
      if (field.number == 2) type = field.value;
      if (field.number == 8) label = name(field.text);
      if (field.number == 4 || field.number == 5 || field.number == 7 || field.number == 9)
        held |= bits({0}) << field.number, tensor.field = field.number, tensor.values = field.text;
      if (field.number != 12 && field.number != 14 && field.number != 16) append(made, field);
    });
    const std::size_t size = type == 1 || type == 6 ? 4 : type == 2 || type == 3 ? 1 : type == 7 ? 8 : 2;
    const std::uint64_t types = held == bits({4})   ? bits({1})
                                : held == bits({5}) ? bits({2, 3, 6})
                                : held == bits({7}) ? bits({7})
                                : held & ~bits({9}) ? 0
                                                    : bits({1, 2, 3, 6, 7, 10, 16});
    std::string_view values = tensor.values;
    std::uint64_t found = values.size() / size;
    if (held & bits({5, 7}))
      for (found = 0; !values.empty(); ++found)
        if (varint(values); ++fields_ > max_fields) broken();
    if (type > 16 || !(types & bits({0}) << type) || found != count || values.size() % size)
      refuse("holds a tensor whose type and shape do not fit its values: it is damaged");
    if (is_float(type) && !tensor.is_finite(size))
      refuse("has a weight that is NaN or infinite ('" + label.substr(0, 60) +
             "'), which an activation can hide: export it again from a sound checkpoint");
    tensors_.emplace_back(label, message);
  }

  // An input or output; of its type nothing is left out but remarks.
  OnnxValue append_value(std::string& made, std::string_view message) {
    OnnxValue value;
    each(message, {0, bits({1, 2, 3, 4}), 0, bits({4})}, [&](const Field& field) {
      if (field.number == 1) value.name = name(field.text);
      if (field.number == 2) read_type(value, field.text);
      if (field.number < 3) append(made, field);
    });
    return value;
  }

  void read_type(OnnxValue& value, std::string_view message) {
    each(message, {0, bits({1, 6}), 0, 0}, [&](const Field& tensor) {
      if (tensor.number != 1) return;
      each(tensor.text, {bits({1}), bits({2}), 0, 0}, [&](const Field& part) {
        if (part.number == 1) value.type = part.value;
        if (part.number == 2) value.shaped = true, read_sides(value.shape, part.text);
      });
    });
  }

  void read_sides(Sides& shape, std::string_view message) {
    each(message, {0, bits({1}), 0, bits({1})}, [&](const Field& side) {
      shape.push_back(-1);
      each(side.text, {bits({1}), bits({2, 3}), 0, 0}, [&](const Field& length) {
        if (length.wire) return;
        if (length.value > std::uint64_t{1} << 31) broken();
        shape.back() = static_cast<std::int64_t>(length.value);
      });
    });
  }

  std::string path_;
  OnnxGraph graph_;
  Messages tensors_;
  int fields_ = 0;
};

constexpr const char* form_key = "yowo_streaming_form";
constexpr std::size_t max_form_bytes = 4 << 20;

// The streaming form that a file of clips carries: another graph over the same weights; `file` where it has none.
// `yowo_deploy/model_files/streaming_form.py` describes it. Throws ModelFileError: it is no such form.
inline OnnxFile in_streaming_form(OnnxFile file, const OnnxWalk& walk, const std::string& path) {
  const auto packed = file.metadata.find(form_key);
  if (packed == file.metadata.end() || file.spec(path).streaming) return file;
  std::string content;
  try {
    content = Inflater(from_base64(packed->second)).run(max_form_bytes);
  } catch (const InputError&) {
    throw ModelFileError(path + " carries a damaged streaming form: export it again");
  }
  OnnxFile form = OnnxWalk(path).model(content, walk.tensors());
  form.metadata = {{ModelSpec::metadata_key, file.metadata.at(ModelSpec::metadata_key)}};
  form.streaming = true;
  return form;
}

}  // namespace detail

inline OnnxFile OnnxFile::read(std::istream& stream, const std::string& path, bool streaming) {
  detail::Bytes bytes(stream);
  if (bytes.size() > max_bytes) throw ModelFileError(path + " is larger than 2 GiB, more than one ONNX file can be");
  std::string content(static_cast<std::size_t>(bytes.size()), '\0');
  stream.clear();
  stream.seekg(0);
  stream.read(content.data(), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<std::size_t>(stream.gcount()));
  detail::has_checksum(path, content);
  detail::OnnxWalk walk(path);
  OnnxFile file = walk.model(content);
  return streaming ? detail::in_streaming_form(std::move(file), walk, path) : file;
}

}  // namespace yowo
