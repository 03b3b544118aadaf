// The description of a model that every artifact carries: labels, anchors, clip, preprocessing, decoding.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "yowo/errors.hpp"
#include "yowo/json.hpp"

namespace yowo {

// Everything a runtime must know to feed a YOWO model and to read its answer; `yowo_deploy/spec.py` says what each
// field means. What `from_json` gives is checked; call `check` after changing a field.
struct ModelSpec {
  static constexpr int newest_format = 4;
  static constexpr double max_clip = 1 << 28, max_anchor = 1 << 15, max_scale = 1 << 15;
  static constexpr std::size_t max_labels = 100'000, max_text = 1'000, max_anchors = 1'000;
  static constexpr std::size_t max_json = 16 << 20;  // bytes
  static constexpr const char* metadata_key = "yowo_spec";

  std::vector<std::string> labels;
  std::vector<std::array<double, 2>> anchors;
  int clip_length = 16;
  int frame_stride = 1;
  std::array<int, 2> input_size{224, 224};
  int stride = 32;
  std::string colour = "rgb";
  std::array<double, 3> mean{0, 0, 0};
  std::array<double, 3> std{1, 1, 1};
  std::string input_type = "float32";
  std::string resize = "squash";
  std::string resize_filter = "bilinear";
  std::string start_rule = "repeat";
  std::string class_activation = "softmax";
  int softmax_classes = 0;
  std::string attention_sign = "paper";
  double confidence_threshold = 0.25, keep_threshold = 0, tube_decay = 0;
  double event_on = 0.5, event_off = 0.3;
  double evaluation_threshold = 0.005, nms_threshold = 0.4;
  std::string precision = "fp32";
  std::string weights_sha256;
  std::string name = "yowo";
  bool streaming = false;
  std::vector<std::array<std::string, 3>> branches;  // name, modality, frames
  int format_version = newest_format;

  // Throws SpecError: not JSON, an unknown or missing field, a wrong type or value, or a newer format.
  static ModelSpec from_json(std::string_view text);
  static ModelSpec from_values(const Json& values);
  void check() const;

  int classes() const { return static_cast<int>(labels.size()); }
  int columns() const { return input_size[0] / stride; }
  int rows() const { return input_size[1] / stride; }
  int cells() const { return columns() * rows(); }
  int output_channels() const { return static_cast<int>(anchors.size()) * (5 + classes()); }
  int clip_span() const { return (clip_length - 1) * frame_stride + 1; }
  std::size_t plane_size() const {
    return static_cast<std::size_t>(input_size[0]) * static_cast<std::size_t>(input_size[1]);
  }
  std::size_t clip_size() const { return 3 * static_cast<std::size_t>(clip_length) * plane_size(); }
  std::size_t output_size() const {
    return static_cast<std::size_t>(output_channels()) * static_cast<std::size_t>(cells());
  }
};

namespace detail {

template <class Found>
void require(bool holds, const char* field, const Found& found, const std::string& expected) {
  if (!holds) throw SpecError(text("spec field ", field, " is ", found, ", expected ", expected));
}

inline const char* kind_name(const Json& value) {
  constexpr const char* names[] = {"null", "a boolean", "a number", "text", "a list", "an object"};
  return names[static_cast<int>(value.kind)];
}

inline void read(const Json& value, const char* field, std::string& out) {
  require(value.kind == Json::Kind::text, field, kind_name(value), "text");
  out = value.text;
}

inline void read(const Json& value, const char* field, bool& out) {
  require(value.kind == Json::Kind::boolean, field, kind_name(value), "a boolean");
  out = value.boolean;
}

inline void read(const Json& value, const char* field, double& out) {
  require(value.kind == Json::Kind::number, field, kind_name(value), "float");
  require(!value.integral || std::abs(value.number) < 9007199254740992.0, field, value.number, "float");
  out = value.number;
}

inline void read(const Json& value, const char* field, int& out) {
  require(value.kind == Json::Kind::number && value.integral, field, kind_name(value), "a whole number");
  require(std::abs(value.number) < 2147483648.0, field, value.number, "a number of 32 bits");
  out = static_cast<int>(value.number);
}

inline const Json& list_of(const Json& value, const char* field) {
  require(value.kind == Json::Kind::list, field, kind_name(value), "a list");
  return value;
}

template <class Item, std::size_t length>
void read(const Json& value, const char* field, std::array<Item, length>& out) {
  const std::vector<Json>& items = list_of(value, field).items;
  require(items.size() == length, field, text(items.size(), " values"), text(length));
  for (std::size_t at = 0; at < length; ++at) read(items[at], field, out[at]);
}

template <class Item>
void read(const Json& value, const char* field, std::vector<Item>& out) {
  out.clear();
  for (const Json& item : list_of(value, field).items) {
    out.emplace_back();
    read(item, field, out.back());
  }
}

// Calls `visit(name, member)` for every field of a spec.
template <class Spec, class Visit>
void each_field(Spec& spec, const Visit& visit) {
  visit("labels", spec.labels), visit("anchors", spec.anchors), visit("clip_length", spec.clip_length),
      visit("frame_stride", spec.frame_stride), visit("input_size", spec.input_size), visit("stride", spec.stride),
      visit("colour", spec.colour), visit("mean", spec.mean), visit("std", spec.std),
      visit("input_type", spec.input_type), visit("resize", spec.resize),
      visit("resize_filter", spec.resize_filter), visit("start_rule", spec.start_rule),
      visit("class_activation", spec.class_activation), visit("softmax_classes", spec.softmax_classes),
      visit("attention_sign", spec.attention_sign), visit("confidence_threshold", spec.confidence_threshold),
      visit("keep_threshold", spec.keep_threshold), visit("tube_decay", spec.tube_decay),
      visit("event_on", spec.event_on), visit("event_off", spec.event_off),
      visit("evaluation_threshold", spec.evaluation_threshold), visit("nms_threshold", spec.nms_threshold),
      visit("precision", spec.precision), visit("weights_sha256", spec.weights_sha256), visit("name", spec.name),
      visit("streaming", spec.streaming), visit("branches", spec.branches),
      visit("format_version", spec.format_version);
}

// Whether every character can be shown, as Python's `str.isprintable`, but for code points that are assigned to
// nothing.
inline bool printable(std::string_view label) {
  constexpr std::pair<long, long> hidden[] = {
      {0x00, 0x1F},     {0x7F, 0xA0},     {0xAD, 0xAD},     {0x600, 0x605},   {0x61C, 0x61C},
      {0x6DD, 0x6DD},   {0x70F, 0x70F},   {0x890, 0x891},   {0x8E2, 0x8E2},   {0x1680, 0x1680},
      {0x180E, 0x180E}, {0x2000, 0x200F}, {0x2028, 0x202F}, {0x205F, 0x206F}, {0x3000, 0x3000},
      {0xD800, 0xF8FF}, {0xFEFF, 0xFEFF}, {0xFFF0, 0xFFFB}, {0xFFFE, 0xFFFF}, {0xE0000, 0x10FFFF}};
  for (std::size_t at = 0; at < label.size();) {
    const long code = utf8_next(label, at);
    if (code < 0) return false;
    for (const auto& [low, high] : hidden)
      if (code >= low && code <= high) return false;
  }
  return !label.empty();
}

// Characters of UTF-8.
inline std::size_t length(const std::string& text) {
  std::size_t found = 0;
  for (const char byte : text) found += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  return found;
}

inline void one_of(const char* field, const std::string& found, const std::vector<std::string>& allowed) {
  for (const std::string& each : allowed)
    if (found == each) return;
  require(false, field, "'" + found + "'", "one of " + listed(allowed));
}

inline void at_most_format(double version) {
  if (version > ModelSpec::newest_format)
    throw SpecError(
        text("spec format ", version, " is newer than ", ModelSpec::newest_format, ": upgrade yowo-deploy"));
}

}  // namespace detail

inline ModelSpec ModelSpec::from_json(std::string_view text) {
  if (text.size() > max_json)
    throw SpecError(detail::text("the model's spec has ", text.size(), " bytes, expected at most ", max_json));
  Json values;
  try {
    values = Json::parse(text);
  } catch (const InputError& error) {
    throw SpecError(detail::text("the model's spec is not JSON, export the model again: ", error.what()));
  }
  return from_values(values);
}

inline ModelSpec ModelSpec::from_values(const Json& values) {
  if (values.kind != Json::Kind::object)
    throw SpecError(detail::text("the model's spec is ", detail::kind_name(values), ", expected a JSON object"));
  const Json* version = values.find("format_version");
  if (version && version->integral) detail::at_most_format(version->number);  // first: its fields would be unknown ones
  ModelSpec spec;
  std::set<std::string_view> known;
  detail::each_field(spec, [&](const char* field, auto&) { known.insert(field); });
  for (const std::string& name : values.names)
    if (!known.count(name)) throw SpecError("unknown field in the model's spec: '" + name + "'");
  std::vector<std::string> missing;
  for (const char* needed : {"anchors", "labels"})
    if (!values.find(needed)) missing.push_back(detail::text("'", needed, "'"));
  if (!missing.empty()) throw SpecError("the model's spec lacks " + detail::listed(missing));
  detail::each_field(spec, [&](const char* field, auto& member) {
    if (const Json* value = values.find(field)) detail::read(*value, field, member);
  });
  spec.check();
  return spec;
}

inline void ModelSpec::check() const {
  using detail::require;
  require(format_version >= 1, "format_version", format_version, detail::text("1 to ", newest_format));
  detail::at_most_format(format_version);
  require(!labels.empty() && labels.size() <= max_labels, "labels", labels.size(),
          detail::text("at least one class name, at most ", max_labels));
  std::size_t longest = std::max(detail::length(name), detail::length(weights_sha256));
  for (const std::string& label : labels) longest = std::max(longest, detail::length(label));
  require(longest <= max_text, "labels", longest, detail::text("names of at most ", max_text, " characters"));
  std::set<std::string_view> seen;
  for (const std::string& label : labels) {
    require(detail::printable(label), "labels", "'" + label + "'", "names of printable characters");
    require(seen.insert(label).second, "labels", "'" + label + "' twice", "no name twice");
  }
  require(!anchors.empty() && anchors.size() <= max_anchors, "anchors", anchors.size(),
          detail::text("at least one (w, h), at most ", max_anchors));
  for (const auto& wh : anchors)
    for (const double side : wh)
      require(side >= 1 / max_anchor && side <= max_anchor, "anchors", side,
              detail::text("sizes of 1 / ", max_anchor, " to ", max_anchor, " grid cells"));
  require(clip_length >= 1 && clip_length <= 1024, "clip_length", clip_length, "1 to 1024 frames");
  require(frame_stride >= 1 && frame_stride <= 1024, "frame_stride", frame_stride, "1 to 1024 frames");
  require(stride > 0, "stride", stride, "a positive number of pixels");
  for (const int side : input_size)
    require(side > 0 && side <= 8192 && side % stride == 0, "input_size", side,
            detail::text("multiples of ", stride, " up to 8192"));
  const double numbers = 3.0 * clip_length * frame_stride * input_size[0] * input_size[1];  // of a ring of clips
  require(numbers <= max_clip, "clip_length x frame_stride x input_size", numbers,
          detail::text("at most ", max_clip, " numbers"));
  const double low = 1 / max_scale, high = max_scale;
  for (const double value : mean)
    require(value >= -high && value <= high, "mean", value, detail::text("-", high, " to ", high));
  for (const double value : std)
    require(value >= low && value <= high, "std", value, detail::text("1 / ", high, " to ", high));
  require(softmax_classes >= 0 && softmax_classes <= classes(), "softmax_classes", softmax_classes,
          detail::text("0 to ", classes()));
  detail::one_of("colour", colour, {"rgb", "bgr"});
  detail::one_of("input_type", input_type, {"float32", "uint8"});
  detail::one_of("resize", resize, {"squash"});
  detail::one_of("resize_filter", resize_filter, {"nearest", "bilinear", "bicubic"});
  detail::one_of("start_rule", start_rule, {"repeat"});
  detail::one_of("class_activation", class_activation, {"softmax", "softmax+sigmoid"});
  detail::one_of("attention_sign", attention_sign, {"paper", "release"});
  std::set<std::string_view> names;
  for (const auto& [branch, modality, frames] : branches) {
    const bool fits = detail::printable(branch) && detail::length(branch) <= max_text && names.insert(branch).second &&
                      names.size() <= 8;
    require(fits, "branches", "'" + branch + "'", "at most 8 printable names, none twice");
    detail::one_of("branches", modality, {"colour", "flow"});
    detail::one_of("branches", frames, {"key frame", "clip"});
  }
  detail::one_of("precision", precision, {"fp32", "fp16", "bf16", "int8"});
  detail::each_field(*this, [](const char* field, const auto& value) {  // every single double is a share
    if constexpr (std::is_same_v<decltype(value), const double&>)
      require(value >= 0 && value <= 1, field, value, "0 to 1");
  });
  require(event_off <= event_on, "event_off", event_off, detail::text("at most event_on, ", event_on));
}

}  // namespace yowo
