// The record in a TensorRT plan: its spec, its builder and its target, read from the bytes without TensorRT or a GPU.
//
// `yowo_deploy/model_files/plan_record.py` describes our record in a plan, and what its hash beside it can and cannot
// tell.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <istream>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "yowo/digest.hpp"
#include "yowo/errors.hpp"
#include "yowo/json.hpp"
#include "yowo/model_files/bytes.hpp"
#include "yowo/spec.hpp"

namespace yowo {

// What was built, and for whom; the fields of Python's `PlanFile`.
struct PlanFile {
  ModelSpec spec;
  std::string flavour;             // the library that built it and that alone can load it
  std::string version;             // of that library
  std::string compute_capability;  // of the GPU that it was built on, as "8.9"; "" from TensorRT-RTX
  std::string onnx_sha256;
  std::array<int, 3> batch{1, 1, 1};  // the smallest, usual and largest number of clips in a call
  double workspace = 0;               // bytes
  bool tf32 = true;
  bool version_compatible = false;
  double macs = 0;     // multiply-adds for one clip; 0 where the ONNX file did not say
  std::string golden;  // what Python's preprocessing makes of the golden frame, as JSON; "" in older plans

  // Nothing of it is run, and its hash is not verified; `path` is for messages, and for PLAN.json beside it.
  // Throws ModelFileError: it is no plan, is damaged or cut short, or another tool built it; SpecError: its spec lies
  // beside it and is not there, or is another one.
  static PlanFile read(std::istream& stream, const std::string& path);
};

namespace detail {

constexpr std::string_view plan_mark = "yowo-plan/1 ";
constexpr std::uint64_t plan_head = 1 << 16, plan_searched = 1 << 27;

// Where the mark of our record begins among the first `limit` bytes, or `limit`.
inline std::uint64_t find_mark(Bytes& bytes, std::uint64_t limit) {
  std::size_t matched = 0;
  limit = std::min(limit, bytes.size());
  for (std::uint64_t at = 0; at < limit; ++at) {
    const char here = static_cast<char>(bytes[at]);
    matched = here == plan_mark[matched] ? matched + 1 : here == plan_mark[0];  // its first letter is there once
    if (matched == plan_mark.size()) return at + 1 - matched;
  }
  return limit;
}

// The JSON of the record in a plan.
inline std::string plan_payload(std::istream& stream, const std::string& path) {
  Bytes bytes(stream);
  const std::string head = bytes.copy(0, std::min<std::uint64_t>(24, bytes.size()));
  if (head.substr(std::min<std::size_t>(1, head.size()), 3) != "trt" &&
      find_mark(bytes, plan_head) == std::min(plan_head, bytes.size()))
    throw ModelFileError(path + " is not a TensorRT plan: `yowo-deploy build` writes one from an ONNX file");
  std::uint64_t said = 0;
  for (std::size_t byte = std::min<std::size_t>(24, head.size()); byte-- > 16;)
    said = said << 8 | static_cast<unsigned char>(head[byte]);
  if (head.substr(0, 4) == "vtrt" && said != bytes.size())
    throw ModelFileError(
        text(path, " holds ", bytes.size(), " bytes of ", said, ": it is cut off; copy it again, or rebuild"));
  const std::uint64_t start = find_mark(bytes, plan_searched);
  if (start == std::min(plan_searched, bytes.size()))
    throw ModelFileError(
        path +
        " is a TensorRT plan without our record, so labels and anchors are unknown: build it from its ONNX file with "
        "`yowo-deploy build`, or, if it was, it is cut off");
  const std::uint64_t from = start + plan_mark.size();
  const std::string record = bytes.copy(from, std::min(bytes.size(), from + 10032));
  const std::string form = record.substr(0, 5);
  char length[5] = "", crc[9] = "";
  int at = 0;  // 0 where there is no such header
  std::sscanf(record.c_str(), "%*4s%*1[ ]%4[0-9]%*1[ ]%8[0-9a-f]%*1[ ]%n", length, crc, &at);
  const auto size = static_cast<std::size_t>(std::strtoul(length, nullptr, 10));
  const std::string payload = record.substr(static_cast<std::size_t>(at), size);
  if ((form != "json " && form != "zlib ") || !at || payload.size() != size ||
      std::strtoul(crc, nullptr, 16) != crc32(payload))
    throw ModelFileError("the record in " + path + " is damaged or cut off: copy the plan again, or rebuild it");
  if (form == "zlib ")
    throw ModelFileError("the record in " + path +
                         " is compressed, as older versions wrote it, expected plain JSON: rebuild the plan with "
                         "`yowo-deploy build`");
  return payload;
}

inline ModelSpec spec_beside(const std::string& path, const std::string& sha256) {
  const std::string content = beside(path + ".json", ModelSpec::max_json + 1);
  if (content.empty())
    throw SpecError("the spec of " + path + " lies in " + path + ".json, which is not beside it: copy both");
  if (Sha256::of(content) != sha256)
    throw SpecError(path + ".json is not the spec that " + path + " was built with: copy both again, or rebuild");
  return ModelSpec::from_json(content);
}

// The numbers, three at most, with points between them, that a text begins with; `end` becomes the place behind them.
inline std::vector<unsigned> numbers(std::string_view text, std::size_t& end) {
  std::vector<unsigned> found;
  const char *at = text.data(), *const last = at + text.size();
  for (unsigned value = 0; found.size() < 3 && std::from_chars(at, last, value).ec == std::errc();) {
    found.push_back(value);
    const char* const start = at;
    at = std::find_if(at, last, [](char letter) { return letter < '0' || letter > '9'; });
    if (at - start > 9) return {};
    end = static_cast<std::size_t>(at - text.data());
    if (at == last || *at++ != '.') break;
  }
  return found;
}

inline void check_plan_fields(const PlanFile& plan) {
  constexpr const char* rest = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.+";
  const std::string &hash = plan.onnx_sha256, &gpu = plan.compute_capability;
  std::size_t end = 0, gpu_end = 0;
  const bool sound = (plan.flavour == "tensorrt" || plan.flavour == "tensorrt-rtx") &&
                     numbers(plan.version, end).size() == 3 &&
                     plan.version.find_first_not_of(rest, end) == std::string::npos &&
                     (gpu.empty() || (numbers(gpu, gpu_end).size() == 2 && gpu_end == gpu.size())) &&
                     hash.size() == 64 && hash.find_first_not_of("0123456789abcdef") == std::string::npos &&
                     plan.batch[0] >= 1 && plan.batch[0] <= plan.batch[1] && plan.batch[1] <= plan.batch[2] &&
                     plan.workspace >= 0 && plan.workspace < 9007199254740992.0 && plan.macs >= 0 &&
                     plan.macs < 9007199254740992.0 &&
                     plan.golden.find_first_not_of("[]0123456789-., ") == std::string::npos &&
                     plan.golden.size() <= 2002;
  if (!sound) throw InputError("its fields describe no plan");
}

inline PlanFile plan_from(const Json& values, const std::string& path) {
  PlanFile plan;
  if (values.kind != Json::Kind::object) throw InputError("it is not a JSON object");
  const Json& spec = values.at("spec");
  plan.spec = spec.kind == Json::Kind::text ? spec_beside(path, spec.text) : ModelSpec::from_values(spec);
  std::size_t known = 1;
  const auto field = [&](const char* name, auto& member, bool needed) {
    const Json* value = needed ? &values.at(name) : values.find(name);
    if (value) read(*value, name, member), ++known;
  };
  try {
    field("flavour", plan.flavour, true), field("version", plan.version, true);
    field("compute_capability", plan.compute_capability, true), field("onnx_sha256", plan.onnx_sha256, true);
    field("batch", plan.batch, true), field("workspace", plan.workspace, false), field("tf32", plan.tf32, false);
    for (const char* name : {"workspace", "macs"})
      if (const Json* value = values.find(name); value && !value->integral) throw InputError("no whole number");
    field("version_compatible", plan.version_compatible, false), field("golden", plan.golden, false);
    field("macs", plan.macs, false);
  } catch (const SpecError& error) {
    throw InputError(error.what());  // about the plan, not about its spec
  }
  if (known != values.names.size()) throw InputError("it has fields that are not known");
  check_plan_fields(plan);
  return plan;
}

}  // namespace detail

inline PlanFile PlanFile::read(std::istream& stream, const std::string& path) {
  try {
    return detail::plan_from(Json::parse(detail::plan_payload(stream, path)), path);
  } catch (const InputError& error) {
    if (is_about_a_model(error)) throw;
    throw ModelFileError("the record in " + path + " cannot be read (" + error.what() +
                         "): upgrade yowo-deploy or rebuild");
  }
}

// Whether a file is a TensorRT plan, ours or not: by the tag that it begins with, or by our record.
inline bool is_plan(std::istream& stream) {
  detail::Bytes bytes(stream);
  if (bytes.size() < 4) return false;
  return bytes.copy(1, 4) == "trt" ||
         detail::find_mark(bytes, detail::plan_head) < std::min(detail::plan_head, bytes.size());
}

// `content` is what will be loaded: the file may be another by then. Throws ModelFileError: the hash of a plan differs
// from the recorded one, or none is recorded and it is not trusted.
inline void verify_plan(std::string_view content, const std::string& path, bool trust) {
  if (trust) return;
  if (!detail::is_file(path + ".sha256"))
    throw ModelFileError(path +
                         " has no recorded hash, and loading a plan runs what is in it: copy its .sha256 along, or set "
                         "`trust` if you know who built it");
  std::istringstream line(detail::beside(path + ".sha256", detail::plan_head));
  std::string recorded;
  line >> recorded;
  const std::string found = detail::Sha256::of(content);
  if (found != recorded)
    throw ModelFileError(path + " is not what was built: its sha256 is " + found.substr(0, 12) +
                         "..., its .sha256 says " + (recorded.empty() ? "nothing" : recorded.substr(0, 12)) +
                         "...: copy both again, or rebuild");
}

// "10.8.0" for what `getInferLibVersion` gives: 100800. TensorRT 8 and 9 had a digit less for the minor number, 8601;
// TensorRT-RTX counts from 1 and never had: 10701 is 1.7.1.
inline std::string library_version(const std::string& flavour, int number) {
  const int major = flavour == "tensorrt" && number < 100000 ? 1000 : 10000;
  return detail::text(number / major, ".", number / 100 % (major / 100), ".", number % 100);
}

// Refuse a plan that this machine cannot load, before anything of it is loaded; see Python's `check_plan`.
inline void check_plan(const std::string& path, const PlanFile& plan, const std::string& flavour,
                       const std::string& version, const std::string& compute_capability) {
  using Numbers = std::vector<unsigned>;
  std::size_t end = 0;
  const Numbers built = detail::numbers(plan.version, end), now = detail::numbers(version, end),
                gpu = detail::numbers(compute_capability, end);
  bool right_version = built == now, right_gpu = plan.compute_capability == compute_capability;
  if (plan.flavour == "tensorrt") {
    const bool same_line = !now.empty() && (built[0] == now[0] || (built[0] == 10 && now[0] == 11));
    right_version |= plan.version_compatible && same_line && built <= now;
  } else {
    right_gpu = gpu == Numbers{8, 0} || gpu == Numbers{8, 6} || gpu == Numbers{8, 9} || gpu >= Numbers{12, 0};
  }
  if (plan.flavour == flavour && right_version && right_gpu) return;
  throw ModelFileError(
      path + " is " + plan.spec.precision + ", built for " +
      (plan.flavour == "tensorrt" ? "SM " + plan.compute_capability : std::string("RTX GPUs from SM 8.0 on")) +
      " with " + plan.flavour + " " + plan.version + "; this is SM " + compute_capability + " with " + flavour + " " +
      version + ": rebuild it with `yowo-deploy build`");
}

}  // namespace yowo
