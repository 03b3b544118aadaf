// The spec in an ONNX file, and the gate that its bytes pass before any engine parses them.
//
// The runtimes can be crashed or hung by small crafted files, so a file is walked here first: a plain graph of known
// operators, all weights inside, nothing nested, nothing absurdly large.
// `yowo_deploy/model_files/onnx_reader.py` is the same gate.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <istream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "yowo/errors.hpp"
#include "yowo/spec.hpp"

namespace yowo {

namespace detail {

// A file to read. Throws InputError: it is missing, a folder, unreadable or empty.
inline std::ifstream existing_file(const std::string& path, const char* what) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw InputError(text(what, " ", path, " is not there or cannot be read: give the path of a file"));
  if (stream.peek() == std::ifstream::traits_type::eof())
    throw InputError(text(what, " ", path, " is a folder or is empty: give the path of a file"));
  return stream;
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

}  // namespace detail

// The outside of an ONNX model.
struct OnnxFile {
  static constexpr int max_nodes = 20000;
  static constexpr std::uint64_t max_bytes = std::uint64_t{2} << 30;
  static constexpr std::size_t max_text = std::size_t{4} << 20;

  std::int64_t opset = 0;
  std::map<std::string, std::string> metadata;

  // `path` is for messages alone. Throws ModelFileError: no protobuf, or no graph in it; functions, subgraphs or
  // external data; an operator that no YOWO graph has; too large.
  static OnnxFile read(std::istream& stream, const std::string& path);

  // The spec that it carries. Throws SpecError: none, or a broken one.
  ModelSpec spec(const std::string& path) const {
    const auto found = metadata.find(ModelSpec::metadata_key);
    if (found == metadata.end())
      throw SpecError(path +
                      " carries no spec (metadata 'yowo_spec'), so labels and anchors are unknown: write the file with "
                      "`yowo-deploy export`");
    return ModelSpec::from_json(found->second);
  }
};

namespace detail {

class OnnxWalk {
 public:
  OnnxWalk(std::istream& stream, std::string path) : bytes_(stream), path_(std::move(path)) {}

  OnnxFile model() {
    if (bytes_.size() > OnnxFile::max_bytes) refuse("is larger than 2 GiB, more than one ONNX file can be");
    OnnxFile file;
    each({0, bytes_.size()}, [&](const Field& field) {
      if (field.number == 25) refuse("defines functions of its own; our graphs have none, so it is refused");
      if (field.number == 8) opset(message(field), file.opset);
      if (field.number == 14) {
        std::string key, value;
        each(message(field), [&](const Field& part) {
          if (part.number == 1) key = string(part);
          if (part.number == 2) value = string(part);
        });
        file.metadata[key] = value;
      }
      if (field.number == 7) {
        if (nodes_) refuse("holds several graphs; ours hold one, so it is refused");
        graph(message(field));
      }
    });
    if (!nodes_ || !file.opset) refuse("is not an ONNX file: it holds no graph");
    return file;
  }

 private:
  struct Range {
    std::uint64_t from, to;
  };
  struct Field {
    std::uint64_t number, value;  // of numbers; for texts and messages their range
    bool is_range;
    Range range;
  };

  [[noreturn]] void refuse(const std::string& why) const { throw ModelFileError(path_ + " " + why); }
  [[noreturn]] void broken() const { refuse("is not an ONNX file, or is cut off"); }

  std::uint64_t varint(std::uint64_t& at, std::uint64_t end) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && at < end; shift += 7) {
      const std::uint64_t byte = bytes_[at++];
      value |= (byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    broken();
  }

  template <class Visit>
  void each(Range range, const Visit& visit) {
    for (std::uint64_t at = range.from; at < range.to;) {
      const std::uint64_t key = varint(at, range.to), kind = key & 7;
      Field field{key >> 3, 0, kind == 2, {at, at}};
      if (kind == 0) {
        field.value = varint(at, range.to);
      } else if (kind == 1 || kind == 2 || kind == 5) {
        const std::uint64_t size = kind == 2 ? varint(at, range.to) : kind == 1 ? 8 : 4;
        if (size > range.to - at) broken();
        field.range = {at, at + size};
        field.value = size;  // of a fixed-width number: not 0, which is all that matters here
        at += size;
      } else {
        broken();
      }
      visit(field);
    }
  }

  // A fixed-width number is none: parsers skip it where they expect text, so it must not pass for text here.
  Range message(const Field& field) const {
    if (!field.is_range) broken();
    return field.range;
  }

  std::string string(const Field& field) {
    const Range range = message(field);
    if (range.to - range.from > OnnxFile::max_text) refuse("holds a text of more than 4 MiB, so it is refused");
    std::string made = bytes_.copy(range.from, range.to);
    for (std::size_t at = 0; at < made.size();)
      if (utf8_next(made, at) < 0) broken();
    return made;
  }

  void opset(Range range, std::int64_t& version) {
    std::string domain;
    std::uint64_t number = 0;
    each(range, [&](const Field& field) {
      if (field.number == 1) domain = string(field);
      if (field.number == 2) number = field.is_range ? 0 : field.value;
    });
    if (domain.empty()) version = static_cast<std::int64_t>(number);
  }

  void graph(Range range) {
    each(range, [&](const Field& field) {
      if (field.number == 1) node(message(field));
      if (field.number == 5) tensor(message(field));
      if (field.number == 15) refuse("holds sparse weights; our graphs have none, so it is refused");
    });
  }

  void node(Range range) {
    if (++nodes_ > OnnxFile::max_nodes) refuse(text("has more than ", OnnxFile::max_nodes, " nodes, so it is refused"));
    std::string name, domain;
    each(range, [&](const Field& field) {
      if (field.number == 4) name = string(field);
      if (field.number == 7) domain = string(field);
      if (field.number == 5) attribute(message(field));
    });
    if (!known(name) || (!domain.empty() && domain != "ai.onnx"))
      refuse("uses the operator " + domain + ":" + name + ", which no YOWO graph has, so it is refused");
  }

  void attribute(Range range) {
    each(range, [&](const Field& field) {
      if (field.number == 6 || field.number == 11) refuse("nests graphs in its nodes; ours do not, so it is refused");
      if (field.number == 22 || field.number == 23)
        refuse("holds sparse weights; our graphs have none, so it is refused");
      if (field.number == 5 || field.number == 10) tensor(message(field));
    });
  }

  void tensor(Range range) {
    each(range, [&](const Field& field) {
      if (field.number == 13 || (field.number == 14 && (field.is_range || field.value != 0)))
        refuse("keeps weights in other files; export it as one file");
    });
  }

  static bool known(std::string_view name) {
    // clang-format off
    static constexpr std::string_view names[] = {
        "Add", "Attention", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv",
        "DequantizeLinear", "DepthToSpace", "Div", "Exp", "Flatten", "Gather", "Gemm", "GlobalAveragePool",
        "HardSwish", "Identity", "LeakyRelu", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "Pad",
        "QuantizeLinear", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice",
        "Softmax", "SpaceToDepth", "Split", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze"};
    // clang-format on
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  }

  Bytes bytes_;
  std::string path_;
  int nodes_ = 0;
};

}  // namespace detail

inline OnnxFile OnnxFile::read(std::istream& stream, const std::string& path) {
  return detail::OnnxWalk(stream, path).model();
}

}  // namespace yowo
