// Maps that neighbouring clips share, kept from frame to frame. `yowo_deploy/backends/streaming.py` describes the
// protocol of a streaming file.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "yowo/backends/base.hpp"
#include "yowo/errors.hpp"
#include "yowo/spec.hpp"

namespace yowo {

// What a streaming network looks at and keeps, as the names of its inputs and outputs say.
struct Keeping {
  struct Output {
    std::string name;
    std::size_t age = 0;  // how many frames ago its oldest reader wants it
  };
  struct Input {
    std::string name;
    std::size_t output, age;
  };
  static constexpr const char *frames_name = "frames", *raw_name = "raw";

  std::size_t frames = 0;  // looked at
  std::vector<Output> outputs;
  std::vector<Input> inputs;
  std::size_t levels = 1;

  // Of a file's inputs and outputs. Throws ModelFileError: they are not those of a streaming file for this spec.
  static Keeping of(const detail::Named& inputs, const detail::Named& outputs, const ModelSpec& spec,
                    const std::string& path) {
    const auto refuse = [&](const std::string& why) { throw ModelFileError(path + why + ": export it again"); };
    Keeping made;
    detail::Shape frames, raw;
    for (const auto& [name, shape] : inputs)
      if (name == frames_name) frames = shape;
    for (const auto& [name, shape] : outputs) {
      std::size_t level = 0;
      if (name == raw_name) {
        raw = shape;
      } else if (std::string_view rest = name; !map_name(rest, level) || !rest.empty()) {
        refuse(" outputs '" + name + "', which is not a map of a streaming file");
      } else {
        made.outputs.push_back({name}), made.levels = std::max(made.levels, level + 1);
      }
    }
    if (frames.size() != 4 || frames[1] < 3 || frames[1] % 3 || frames[2] != spec.input_size[1] ||
        frames[3] != spec.input_size[0] || raw.size() != 4 ||
        detail::Shape(raw.begin() + 1, raw.end()) != detail::Shape{spec.output_channels(), spec.rows(), spec.columns()})
      refuse(" takes (" + detail::listed(frames) + ") and outputs (" + detail::listed(raw) +
             "): not what its spec says");
    made.frames = static_cast<std::size_t>(frames[1] / 3);
    for (const auto& [name, shape] : inputs) {
      if (name == frames_name) continue;
      std::string_view rest = name;
      std::size_t level = 0, age = 0;
      if (!map_name(rest, level) || rest.empty() || rest[0] != '@' ||
          (rest.remove_prefix(1), !number(rest, 4, age)) || !rest.empty() || age < 1)
        refuse(" reads '" + name + "', which is not a map of a streaming file");
      std::size_t at = 0;
      while (at < outputs.size() && outputs[at].first != name.substr(0, name.find('@'))) ++at;
      if (at == outputs.size() || outputs[at].second != shape)
        refuse(" reads " + name + ", which is not one of its outputs in that shape");
      at = 0;
      while (made.outputs[at].name != name.substr(0, name.find('@'))) ++at;
      made.inputs.push_back({name, at, age});
      made.outputs[at].age = std::max(made.outputs[at].age, age);
    }
    for (const Output& each : made.outputs)
      if (!each.age) refuse(" outputs " + each.name + " and never reads it");
    made.check_size(outputs, spec, refuse);
    return made;
  }

 private:
  // What is kept is of one clip, and part of what the gate lets a graph make of it: 240 numbers for each of a clip's.
  template <class Refuse>
  void check_size(const detail::Named& shapes, const ModelSpec& spec, const Refuse& refuse) const {
    const auto length = static_cast<std::size_t>(spec.clip_length);
    std::size_t oldest = 0;
    double kept = 0;
    for (const Output& each : outputs) {
      const auto is_it = [&](const auto& one) { return one.first == each.name; };
      double size = spec.frame_stride * static_cast<double>(each.age + 1);
      for (const std::int64_t side : std::find_if(shapes.begin(), shapes.end(), is_it)->second)
        size *= static_cast<double>(side);
      oldest = std::max(oldest, each.age), kept += size;
    }
    if (!oldest || oldest >= length || frames > length)
      refuse(detail::text(" looks at ", frames, " frames and at maps of up to ", oldest, " frames before, a clip has ",
                          length));
    const double most = 240 * std::max(1048576.0, 3.0 * spec.clip_span() * static_cast<double>(spec.plane_size()));
    if (kept > most) refuse(detail::text(" keeps ", kept, " numbers, expected at most ", most, " for this clip"));
  }

  static bool number(std::string_view& rest, std::size_t most_digits, std::size_t& value) {
    std::size_t digits = 0;
    const std::size_t most = std::min(most_digits, rest.size());
    for (value = 0; digits < most && rest[digits] >= '0' && rest[digits] <= '9'; ++digits)
      value = 10 * value + static_cast<std::size_t>(rest[digits] - '0');
    rest.remove_prefix(digits);
    return digits > 0;
  }

  // Takes "kept_L_N" off the beginning.
  static bool map_name(std::string_view& rest, std::size_t& level) {
    std::size_t of_level = 0;
    const auto word = [&](std::string_view wanted) {
      const bool there = rest.substr(0, wanted.size()) == wanted;
      if (there) rest.remove_prefix(wanted.size());
      return there;
    };
    return word("kept_") && number(rest, 2, level) && word("_") && number(rest, 4, of_level);
  }
};

// One frame of one stream, on an engine. Memories of maps are numbers that it gives.
class Step {
 public:
  Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;
  virtual ~Step() = default;

  // New memory for a map of this output, whatever is in it.
  virtual std::size_t memory(std::size_t output) = 0;

  // Run the network, or the part of it that makes the maps, on (1, 3 * K, H, W) frames. `reads` are in the order of
  // `Keeping::inputs`, `writes` in that of its outputs; none is in both. Returns the raw output, valid until the next
  // call, or nullptr where not `whole`.
  virtual const float* run(const float* frames, const std::vector<std::size_t>& reads,
                           const std::vector<std::size_t>& writes, bool whole) = 0;
};

// A stream over a step of an engine. Allocates nothing once it is made.
class KeptStream final : public FrameStream {
 public:
  KeptStream(std::unique_ptr<Step> step, const Keeping& keeping, const ModelSpec& spec)
      : step_(std::move(step)), keeping_(keeping), frame_(3 * spec.plane_size()), plane_(spec.plane_size()) {
    for (int each = 0; each < spec.frame_stride; ++each) sets_.push_back(new_set());
    reads_.resize(keeping_.inputs.size()), writes_.resize(keeping_.outputs.size());
    first_.resize(sets_.size() > 1 ? frame_ : 0);
  }

  std::array<float*, 3> next() override {
    float* place = newest(sets_[count_ % sets_.size()]);
    return {place, place + plane_, place + 2 * plane_};
  }

  const float* push(bool whole) override {
    Set& set = sets_[count_ % sets_.size()];
    if (count_ == 0 && !first_.empty()) std::copy_n(newest(set), frame_, first_.data());
    if (count_ < sets_.size()) start(set, count_ == 0 ? newest(set) : first_.data());
    if (set.next) std::copy_n(newest(set), frame_, set.ring.data() + set.next * frame_);  // place 0 is never read
    const float* raw = run(set, whole, set.next + 1);
    // Not where the engine failed: the next frame is written over this one.
    set.next = (set.next + 1) % keeping_.frames, ++count_;
    for (std::size_t output = 0; output < writes_.size(); ++output) {
      std::vector<std::size_t>& past = set.past[output];
      const std::size_t last = past.back();
      std::move_backward(past.begin(), past.end() - 1, past.end());
      past[0] = writes_[output];
      if (past.back() != last) set.spare[output].push_back(last);
    }
    return raw;
  }

  void reset() override { count_ = 0; }

 private:
  // The newest frames that lie a stride apart, and the maps made of them. Frames stand in a mirrored ring, so that the
  // newest are always one view. Of each map there are as many memories as it is read back, and one to write into.
  struct Set {
    std::vector<float> ring;
    std::size_t next = 0;
    std::vector<std::vector<std::size_t>> spare, past;  // by output; the past from the newest on
  };

  Set new_set() {
    Set made;
    made.ring.resize(2 * keeping_.frames * frame_);
    for (std::size_t output = 0; output < keeping_.outputs.size(); ++output) {
      const std::size_t age = keeping_.outputs[output].age;
      made.past.emplace_back(age, step_->memory(output));
      made.spare.emplace_back().reserve(age + 1);
      for (std::size_t each = 0; each < age; ++each) made.spare.back().push_back(step_->memory(output));
    }
    return made;
  }

  // Where the next frame is written: outside of the newest, whose oldest place it is copied to after them.
  float* newest(Set& set) { return set.ring.data() + (set.next + keeping_.frames) * frame_; }

  // As if this frame had been pushed for ever.
  void start(Set& set, const float* frame) {
    for (std::size_t at = 0; at < 2 * keeping_.frames; ++at)
      if (float* place = set.ring.data() + at * frame_; place != newest(set)) std::copy_n(frame, frame_, place);
    for (std::size_t level = 0; level < keeping_.levels; ++level) {
      run(set, false, 0);
      for (std::size_t output = 0; output < writes_.size(); ++output) {
        std::vector<std::size_t>&past = set.past[output], &spare = set.spare[output];
        for (std::size_t at = 0; at < past.size(); ++at)
          if (std::find(past.begin(), past.begin() + static_cast<std::ptrdiff_t>(at), past[at]) ==
              past.begin() + static_cast<std::ptrdiff_t>(at))
            spare.push_back(past[at]);
        std::fill(past.begin(), past.end(), writes_[output]);
      }
    }
  }

  const float* run(Set& set, bool whole, std::size_t first) {
    for (std::size_t at = 0; at < reads_.size(); ++at)
      reads_[at] = set.past[keeping_.inputs[at].output][keeping_.inputs[at].age - 1];
    for (std::size_t at = 0; at < writes_.size(); ++at) writes_[at] = set.spare[at].back();
    const float* raw = step_->run(set.ring.data() + first * frame_, reads_, writes_, whole);
    for (std::vector<std::size_t>& spare : set.spare) spare.pop_back();  // none where the engine failed
    return raw;
  }

  std::unique_ptr<Step> step_;
  Keeping keeping_;
  std::size_t frame_, plane_, count_ = 0;
  std::vector<Set> sets_;
  std::vector<float> first_;
  std::vector<std::size_t> reads_, writes_;
};

}  // namespace yowo
