// All of the runtime but its engines and its arithmetic, which bits.cpp has: specs, readers, and its own laws.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "allocations.hpp"
#include "check.hpp"
#include "fuzz.cpp"
#include "golden.hpp"
#include "yowo/backends/streaming.hpp"
#include "yowo/yowo.hpp"

namespace {

using golden::file_text;
using golden::place;
using golden::small_spec;
using golden::whole;
using yowo::Json;

// Answers with what it is given, whatever the clip.
struct Answers final : yowo::Backend {
  yowo::ModelSpec known = small_spec();
  std::vector<float> raw = std::vector<float>(known.output_size(), 0.5f);

  const yowo::ModelSpec& spec() const override { return known; }
  const float* infer(const float*) override { return raw.data(); }
};

yowo::Options shown(double confidence, double iou = -1, double keep = -1) {
  yowo::Options options;
  options.confidence = confidence, options.iou = iou, options.keep = keep;
  return options;
}

}  // namespace

YOWO_TEST(specs_are_those_of_python) {
  const Json all = golden::read(arguments, "specs");
  std::size_t index = 0;
  for (const Json& each : all.at("cases").items) {
    const std::string where = place(index++, each.at("text").text.substr(0, 60));
    if (const Json* error = each.find("error")) {
      check::throws<yowo::SpecError>([&] { yowo::ModelSpec::from_json(each.at("text").text); }, error->text, where);
      continue;
    }
    const yowo::ModelSpec spec = yowo::ModelSpec::from_json(each.at("text").text);
    const int numbers[] = {spec.classes(),         spec.columns(),     spec.rows(),
                           spec.output_channels(), spec.clip_span(),   3,
                           spec.clip_length,       spec.input_size[1], spec.input_size[0]};
    for (std::size_t at = 0; at < 9; ++at) check::equal(numbers[at], whole(each.at("numbers").items[at]), where);
    check::equal(spec.labels.back(), each.at("last_label").text, where);
  }
  check::that(index > 80, "the golden file has all its cases");
}

YOWO_TEST(a_clip_is_the_newest_frames_and_the_first_stands_for_those_before) {
  for (const auto& [length, stride] : {std::pair{1, 1}, {3, 1}, {3, 2}, {4, 3}, {16, 1}}) {
    yowo::ModelSpec spec = small_spec();
    spec.clip_length = length, spec.frame_stride = stride;
    yowo::ClipBuffer buffer(spec);
    for (int video = 0; video < 2; ++video) {
      for (int frame = 0; frame < 120; ++frame) {
        std::vector<float> planes(3 * spec.plane_size());
        const auto value = [&](int number, std::size_t channel) {
          return static_cast<float>(1000 * video + 3 * number + static_cast<int>(channel));
        };
        for (std::size_t at = 0; at < planes.size(); ++at) planes[at] = value(frame, at / spec.plane_size());
        const std::array<float*, 3> next = buffer.next();
        for (std::size_t channel = 0; channel < 3; ++channel)
          std::copy_n(planes.begin() + static_cast<std::ptrdiff_t>(channel * spec.plane_size()), spec.plane_size(),
                      next[channel]);
        const float* clip = buffer.push();
        check::equal(reinterpret_cast<std::uintptr_t>(clip) % alignof(float), std::uintptr_t{0}, "alignment");
        for (std::size_t at = 0; at < spec.clip_size(); ++at) {
          const int age = length - 1 - static_cast<int>(at / spec.plane_size()) % length;
          check::equal(
              clip[at],
              value(std::max(0, frame - age * stride), at / spec.plane_size() / static_cast<std::size_t>(length)),
              "T " + std::to_string(length));
        }
      }
      buffer.reset();
    }
  }
}

namespace {

// A network on frames of one number: what it keeps, and what it says of a clip, as written in `says`.
struct Numbers final : yowo::Step {
  std::vector<float> memories;
  std::vector<float> answer = {0};
  int left = -1;  // calls until one fails

  std::size_t memory(std::size_t) override { return memories.push_back(-7), memories.size() - 1; }

  const float* run(const float* frames, const std::vector<std::size_t>& reads, const std::vector<std::size_t>& writes,
                   bool whole) override {
    for (const std::size_t each : writes)
      if (std::find(reads.begin(), reads.end(), each) != reads.end()) check::that(false, "no map is read and written");
    if (left-- == 0) throw yowo::YowoError("the device is out of memory");
    const auto read = [&](std::size_t at) { return memories[reads[at]]; };
    const float newest = frames[3], deep = newest + 10 * read(0);
    answer[0] = deep + 100 * read(1) + 1000 * read(2) + 100000 * frames[0];
    memories[writes[0]] = newest, memories[writes[1]] = deep;
    return whole ? answer.data() : nullptr;
  }

  static float says(const std::function<float(int)>& ago) {
    return ago(0) + 10 * ago(1) + 100 * ago(3) + 1000 * (ago(2) + 10 * ago(3)) + 100000 * ago(1);
  }
};

const yowo::detail::Named streaming_inputs{{"frames", {1, 6, 1, 1}},
                                           {"kept_0_0@1", {1, 1}},
                                           {"kept_0_0@3", {1, 1}},
                                           {"kept_1_12@2", {1, 2}}};
const yowo::detail::Named streaming_outputs{{"kept_0_0", {1, 1}}, {"raw", {1, 6, 1, 1}}, {"kept_1_12", {1, 2}}};

yowo::ModelSpec one_number(int stride) {
  yowo::ModelSpec spec = small_spec();
  spec.labels = {"a"}, spec.anchors = {{1.0, 1.0}}, spec.input_size = {1, 1}, spec.stride = 1;
  spec.clip_length = 4, spec.frame_stride = stride;
  return spec;
}

}  // namespace

YOWO_TEST(frame_by_frame_gives_what_the_clip_gives) {
  for (const int stride : {1, 2, 3}) {
    const yowo::ModelSpec spec = one_number(stride);
    const auto keeping = yowo::Keeping::of(streaming_inputs, streaming_outputs, spec, "made.onnx");
    check::equal(keeping.levels, std::size_t{2}, "levels");
    yowo::KeptStream stream(std::make_unique<Numbers>(), keeping, spec);
    for (int video = 0; video < 2; ++video, stream.reset())
      for (int frame = 0; frame < 40; ++frame) {
        const auto value = [&](int number) { return static_cast<float>((video + number * number) % 10); };
        const bool wanted = frame % 5 != 2;
        const std::size_t before = check::allocations;
        for (float* plane : stream.next()) *plane = value(frame);
        const float* raw = stream.push(wanted);
        const std::size_t after = check::allocations;
        check::equal(after, before, "allocations");
        check::equal(raw != nullptr, wanted, "an answer where it is wanted");
        const float said = Numbers::says([&](int ago) { return value(std::max(0, frame - ago * stride)); });
        if (raw) check::equal(raw[0], said, "stride " + std::to_string(stride) + ", frame " + std::to_string(frame));
      }
  }
}

// As if it had never been pushed, also at the start, where a set of maps needs three calls.
YOWO_TEST(a_step_that_fails_costs_that_frame_alone) {
  for (const int stride : {1, 2, 3})
    for (const int calls : {0, 1, 2}) {
      const yowo::ModelSpec spec = one_number(stride);
      auto made = std::make_unique<Numbers>();
      Numbers& step = *made;
      yowo::KeptStream stream(std::move(made), yowo::Keeping::of(streaming_inputs, streaming_outputs, spec, "made"),
                              spec);
      const auto push = [&](float value) {
        for (float* plane : stream.next()) *plane = value;
        return stream.push(true);
      };
      for (int video = 0; video < 2; ++video, stream.reset())
        for (int frame = 0; frame < 20; ++frame) {
          const auto value = [&](int number) { return static_cast<float>((video + number * number) % 10); };
          for (int failed = 0; failed < (frame + 1) % 4; ++failed) {
            step.left = frame < stride ? calls : 0;
            check::throws<yowo::YowoError>([&] { push(-5); }, "out of memory", "a failed call");
          }
          step.left = -1;
          const std::size_t before = check::allocations;
          const float raw = push(value(frame))[0];
          check::equal(check::allocations, before, "allocations");
          check::equal(raw, Numbers::says([&](int ago) { return value(std::max(0, frame - ago * stride)); }),
                       "stride " + std::to_string(stride) + ", frame " + std::to_string(frame));
        }
    }
}

YOWO_TEST(what_is_no_streaming_file_is_refused) {
  const auto refused = [&](const char* from, const char* to, const char* said, yowo::detail::Shape shape = {1, 1}) {
    yowo::detail::Named inputs = streaming_inputs, outputs = streaming_outputs;
    for (auto* all : {&inputs, &outputs})
      for (auto& [name, sides] : *all)
        if (name == from) name = to, sides = shape;
    check::throws<yowo::ModelFileError>(
        [&] { yowo::Keeping::of(inputs, outputs, one_number(1), "made.onnx"); }, said, to);
  };
  refused("frames", "frames", "not what its spec says", {1, 5, 1, 1});
  refused("frames", "clip", "not what its spec says");
  refused("raw", "raw", "not what its spec says", {1, 7, 1, 1});
  refused("kept_0_0", "kept_0_1", "not one of its outputs in that shape");
  refused("kept_0_0", "kept_0_0", "not one of its outputs in that shape", {1, 2});
  for (const char* name : {"kept_0_", "kept_123_0", "kept_0_12345", "kept_0_0x"})
    refused("kept_0_0", name, "which is not a map");
  for (const char* name : {"kept_0_0@", "kept_0_0@0", "kept_0_0@10250", "kept_0_0@1 ", "kept_0_0"})
    refused("kept_0_0@1", name, "which is not a map");
  for (const char* name : {"kept_0_0@9", "kept_0_0@1024"}) refused("kept_0_0@1", name, "a clip has 4");
  refused("frames", "frames", "looks at 8 frames", {1, 24, 1, 1});
  refused("kept_1_12@2", "kept_0_0@2", "never reads it");
}

YOWO_TEST(between_the_frames_that_are_asked_for_boxes_stay) {
  yowo::Options options = shown(0.05);
  options.every = 3;
  yowo::Detector detector(std::make_unique<Answers>(), options);
  std::vector<std::uint8_t> pixels(3 * 16 * 16, 100);
  std::string seen;
  std::size_t people = 0;
  for (int frame = 0; frame < 9; ++frame) {
    const bool wide = frame > 4;
    const yowo::Result& result = detector.push({pixels.data(), wide ? 16 : 8, 4}, 0.5 * frame, 2 * frame);
    seen += result.carried ? '-' : 'x';
    if (!frame) people = result.detections.size();
    check::equal(result.detections.size(), people, "boxes");
    check::equal(result.frame_index, std::int64_t{2} * frame, "the number that was given");
    check::equal(result.ended.size(), frame == 5 ? people : 0, "ended with the size");
  }
  check::equal(seen, "x--x-xx--", "asked for");
  check::that(people > 0, "people are there");
  check::throws<yowo::InputError>([&] { detector.push({pixels.data(), 8, 4}, 0, 16); }, "after frame 16", "number");
  check::throws<yowo::InputError>([&] { detector.push({pixels.data(), 8, 4}, 1.0 / 0.0); }, "infinite", "time");
  options.every = 0;
  check::throws<yowo::InputError>([&] { yowo::Detector(std::make_unique<Answers>(), options); }, "every is 0", "every");
}

namespace {

// An engine for many threads, whose answer depends on all of a clip, and comes sooner or later.
struct Shared final : yowo::Backend {
  yowo::ModelSpec known = small_spec();
  std::vector<float> raw = std::vector<float>(known.output_size());
  std::size_t calls = 0;

  const yowo::ModelSpec& spec() const override { return known; }

  const float* infer(const float* clip) override {
    std::uint32_t state = 7;
    for (std::size_t at = 0; at < known.clip_size(); at += 11)
      state = state * 31 + static_cast<std::uint32_t>(std::lround(255 * clip[at]));
    if (++calls % 3 == 0) std::this_thread::yield();
    for (float& value : raw) value = static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) / 4e6f - 2;
    return raw.data();
  }

  std::unique_ptr<yowo::Backend> another() override { return std::make_unique<Shared>(); }
};

// Frames of a video by number; null at its end.
struct Video {
  int number, length, at = 0;
  std::vector<std::uint8_t> pixels = std::vector<std::uint8_t>(3 * 16 * 12);

  yowo::FrameView read() {
    if (at++ == length) return {};
    for (std::size_t byte = 0; byte < pixels.size(); ++byte)
      pixels[byte] = static_cast<std::uint8_t>(number * 41 + at * 17 + static_cast<int>(byte) * (at % 5 + 1));
    return {pixels.data(), at % 20 < 15 ? 16 : 12, 12};
  }
};

std::string line_of(const yowo::Result& result) {
  std::string line = result.to_json();
  for (const yowo::Tube& tube : result.ended) line += " " + std::to_string(tube.size());
  return line;
}

// What a detector alone says of a video, a line a frame.
std::vector<std::string> alone(int number, int length, const yowo::Options& options) {
  yowo::Detector detector(std::make_unique<Shared>(), options);
  Video video{number, length};
  std::vector<std::string> lines;
  for (yowo::FrameView frame = video.read(); frame.data; frame = video.read())
    lines.push_back(line_of(detector.push(frame)));
  return lines;
}

}  // namespace

YOWO_TEST(several_calls_at_once_give_what_one_gives) {
  for (const int parallel : {0, 1, 2, 3, 5})
    for (const int every : {1, 3}) {
      yowo::Options options = shown(0.05);
      options.parallel = parallel, options.every = every;
      yowo::Detector detector(std::make_unique<Shared>(), options);
      for (const int length : {0, 1, 2, 40}) {
        Video video{length, length};
        std::vector<std::string> lines;
        detector.stream([&] { return video.read(); },
                        [&](const yowo::Result& result) { lines.push_back(line_of(result)); });
        check::that(lines == alone(length, length, options), "calls " + std::to_string(parallel));
      }
    }
  yowo::Options options = shown(0.05);
  options.parallel = 2;
  yowo::Detector detector(std::make_unique<Answers>(), options);
  Video video{0, 9};
  check::throws<yowo::InputError>([&] { detector.stream([&] { return video.read(); }, [](const auto&) {}); },
                                  "one thread alone", "engine");
  yowo::Detector other(std::make_unique<Shared>(), options);
  int frames = 0;
  const auto broken = [&]() -> yowo::FrameView { return ++frames < 5 ? video.read() : yowo::FrameView{nullptr, 3, 3}; };
  check::throws<std::runtime_error>(
      [&] { other.stream(broken, [](const auto&) { throw std::runtime_error("used"); }); }, "used", "use");
}

YOWO_TEST(streams_of_a_pool_give_what_each_gives_alone) {
  const yowo::Options options = shown(0.05);
  std::map<std::string, std::vector<std::string>> found, expected;
  {
    yowo::StreamPool pool(
        std::make_unique<Shared>(),
        [&](const std::string& name, const yowo::Result& result) {
          check::equal(result.source, name, "name");
          yowo::Result plain = result;
          plain.source.clear();
          found[name].push_back(plain.to_json());
          if (name == "3" && result.frame_index == 4) throw std::runtime_error("enough");
        },
        options);
    for (int number = 0; number < 6; ++number) {
      const auto video = std::make_shared<Video>(Video{number, 30});
      pool.add(std::to_string(number), [video, number]() -> yowo::FrameView {
        if (number == 5 && video->at == 7) throw yowo::InputError("the camera is gone");
        return video->read();
      });
    }
    check::throws<yowo::InputError>([&] { pool.add("2", {}); }, "'2' already", "name");
    const auto errors = pool.wait();
    check::equal(errors.size(), std::size_t{2}, "errors");
    check::equal(errors.at("3"), "enough", "of use");
    check::equal(errors.at("5"), "the camera is gone", "of read");
  }
  for (int number = 0; number < 6; ++number) {
    yowo::Detector detector(std::make_unique<Shared>(), options);
    Video video{number, number == 5 ? 7 : number == 3 ? 5 : 30};
    for (yowo::FrameView frame = video.read(); frame.data; frame = video.read())
      expected[std::to_string(number)].push_back(detector.push(frame).to_json());
  }
  check::that(found == expected, "the results of each alone");
  std::atomic<int> results{0};
  yowo::StreamPool endless(std::make_unique<Shared>(), [&](const std::string&, const yowo::Result&) { ++results; });
  const auto video = std::make_shared<Video>(Video{0, 1 << 30});
  endless.add("endless", [video] { return video->read(); });
  while (results < 3) std::this_thread::yield();
}

YOWO_TEST(nothing_is_allocated_once_the_stream_runs) {
  auto made = std::make_unique<Answers>();
  made->known.mean = {0.5, 0.5, 0.5};
  Answers& backend = *made;
  made->known.tube_decay = 0.97, made->known.keep_threshold = 0.2;
  yowo::Detector detector(std::move(made), shown(0.0, 1.0));  // every candidate is a detection
  yowo::OnlineLinker linker(5, 0.2, 8, 0.5, 50, 1, 0.9, 0.1, 0.1);
  yowo::Detections found;
  std::vector<std::uint8_t> pixels(3 * 40 * 30, 100);
  const auto push = [&](int frame) {
    for (std::size_t at = 0; at < backend.raw.size(); ++at)
      backend.raw[at] = static_cast<float>(at % 7) * 0.1f + static_cast<float>(frame % 3) * 0.01f;
    pixels[static_cast<std::size_t>(frame % 100)] ^= 255;
    found = detector.push({pixels.data(), 40, 30}).detections;
    return linker.push(found).size() + detector.tracks().size();
  };
  for (int frame = 0; frame < 2100; ++frame) push(frame);  // tracks remember 1,000 frames, in room for 2,000
  const std::size_t before = check::allocations;
  std::size_t people = 0;
  for (int frame = 2100; frame < 2300; ++frame) people += push(frame);
  check::equal(check::allocations, before, "allocations");
  check::that(people > 800, "people are shown");
}

// Where memory runs out on the way to a frame of another size, neither size is read or written by the other's measures.
YOWO_TEST(a_frame_without_memory_for_it_changes_nothing) {
  std::vector<std::uint8_t> pixels(3 * 400 * 300);
  for (std::size_t at = 0; at < pixels.size(); ++at) pixels[at] = static_cast<std::uint8_t>(at * at >> 7);
  const auto planes = [&](yowo::Preprocessor& preprocess, int width, int height) {
    const std::uint8_t* made = preprocess.resize({pixels.data(), width, height});
    return std::vector<std::uint8_t>(made, made + 3 * small_spec().plane_size());
  };
  yowo::Preprocessor sound(small_spec());
  const auto small = planes(sound, 9, 5), large = planes(sound, 400, 300);
  int failed = 0;
  for (bool enough = false; !enough; ++failed) {
    yowo::Preprocessor tried(small_spec());
    planes(tried, 9, 5);
    check::allocations_left = failed;
    try {
      tried.resize({pixels.data(), 400, 300});
      enough = true;
    } catch (const std::bad_alloc&) {
    }
    check::allocations_left = -1;
    check::that(planes(tried, 9, 5) == small, "the size before");
    check::that(planes(tried, 400, 300) == large, "the size that failed");
  }
  check::that(failed > 4, "allocations failed");
}

YOWO_TEST(a_message_is_one_line_that_commands_no_terminal) {
  const auto said = [](const std::string& text) { return std::string(yowo::InputError(text).what()); };
  check::equal(said("a\nb\x1b[31m\x7f \xC2\x9B \xE2\x80\xAE \xC3\xA9 \xE6\x97\xA5"),
               "a b?[31m? ? ? \xC3\xA9 \xE6\x97\xA5", "signs");
  std::string letters;
  for (int letter = 0; letter < 1000; ++letter) letters += "\xC3\xA9";
  for (std::size_t before = 0; before < 4; ++before) {
    const std::string cut = said(letters.substr(0, 2 * before) + std::string(before, 'a') + letters + "!");
    std::size_t at = 0;
    while (at < cut.size() && yowo::detail::utf8_next(cut, at) >= 0) continue;
    check::that(at == cut.size() && cut.size() <= 480 && cut.back() == '!', "both ends, in whole characters");
  }
}

YOWO_TEST(a_file_for_several_clips_a_call_is_not_to_be_exported_again_as_it_was) {
  const yowo::ModelSpec spec = small_spec();
  const yowo::detail::Shape clips{-1, 3, spec.clip_length, spec.input_size[1], spec.input_size[0]};
  const yowo::detail::Shape raw{-1, spec.output_channels(), spec.rows(), spec.columns()};
  const auto checked = [&](std::int64_t batch, std::int64_t length) {
    yowo::detail::Named inputs{{"clips", clips}}, outputs{{"raw", raw}};
    inputs[0].second[0] = outputs[0].second[0] = batch, inputs[0].second[2] = length;
    yowo::detail::check_shapes(inputs, outputs, spec, "m.onnx");
  };
  checked(-1, spec.clip_length), checked(1, spec.clip_length);
  check::throws<yowo::ModelFileError>([&] { checked(4, spec.clip_length); },
                                      "m.onnx takes at least 4 clips a call, and a video gives one at a time: export",
                                      "calls of four");
  check::throws<yowo::ModelFileError>([&] { checked(1, spec.clip_length + 1); }, "export it again", "another length");
}

YOWO_TEST(wrong_frames_and_answers_are_errors_that_say_what_to_do) {
  auto made = std::make_unique<Answers>();
  Answers& backend = *made;
  yowo::Detector detector(std::move(made));
  std::vector<std::uint8_t> pixels(3 * 8 * 4);
  check::throws<yowo::InputError>([&] { detector.push({nullptr, 8, 4}); }, "null pointer", "no pixels");
  check::throws<yowo::InputError>(
      [&] {
        detector.push({pixels.data(), 0, 4});
      },
      "frame is 0 x 4, expected 1 to", "no width");
  check::throws<yowo::InputError>([&] { detector.push({pixels.data(), 8, -1}); }, "8 x -1", "no height");
  check::throws<yowo::InputError>(
      [&] {
        detector.push({pixels.data(), 1 << 20, 4});
      },
      "expected 1 to 32768", "too wide");
  check::throws<yowo::InputError>([&] { detector.push({pixels.data(), 8, 4, 23}); }, "expected at least 24", "stride");
  check::throws<yowo::InputError>(
      [&] {
        detector.push({pixels.data(), 8, 4, -24});
      },
      "expected at least 24", "stride upwards");
  backend.raw[5] = std::nanf("");
  check::throws<yowo::ModelFileError>(
      [&] {
        detector.push({pixels.data(), 8, 4});
      },
      "frame 0: the model's output has NaN", "NaN");
  backend.raw[5] = 0;
  check::equal(detector.push({pixels.data(), 8, 4}).frame_index, 1, "goes on after an error");
  detector.reset();
  check::equal(detector.push({pixels.data(), 8, 4}).frame_index, 0, "after reset");
  check::throws<yowo::InputError>([&] { yowo::OnlineLinker(-1); }, "expected at least 0 and 1", "patience");
  yowo::OnlineLinker linker;
  yowo::Detections one, nobody, two;
  one.classes = 1, one.xyxy.resize(1), one.scores = one.confidence = {0.5f}, one.class_id = {0};
  two.classes = 2, two.xyxy.resize(1), two.scores = {0.5f, 0.5f}, two.confidence = {0.5f}, two.class_id = {0};
  linker.push(one), linker.push(nobody);
  check::throws<yowo::InputError>([&] { linker.push(two); }, "have 2 classes, those before had 1", "classes");
  check::throws<yowo::InputError>([&] { linker.push(nobody, 1); }, "frame 1 comes after frame 1", "frame number");
  check::throws<yowo::InputError>([&] { yowo::OnlineLinker(5, 0.2, 9, 0.5, 50, 1, 1.5); }, "decay is 1.5", "decay");
  for (const auto& [confidence, iou, keep] : {std::array{1.5, 0.5, 0.5}, {0.5, 1.5, 0.5}, {0.5, 0.5, 1.5}})
    check::throws<yowo::InputError>(
        [&, at = std::array{confidence, iou, keep}] {
          yowo::Detector(std::make_unique<Answers>(), shown(at[0], at[1], at[2]));
        },
        "expected 0 to 1", "threshold");
  check::throws<yowo::InputError>([&] { yowo::Detector::open(); }, "find_package(yowo_deploy CONFIG)", "no package");
  check::throws<yowo::InputError>([&] { yowo::Detector::open("nowhere.onnx"); }, "not there", "no file");
  check::throws<yowo::InputError>([&] { yowo::Detector::open(arguments.at(0)); }, "is a folder", "folder");
}

YOWO_TEST(people_are_followed_until_the_size_of_frames_changes) {
  yowo::Detector detector(std::make_unique<Answers>(), shown(0.05));
  std::vector<std::uint8_t> pixels(3 * 16 * 16, 100);
  std::size_t people = 0;
  for (int frame = 0; frame < 4; ++frame) {
    const yowo::Result& result = detector.push({pixels.data(), 8, 4});
    people = result.detections.size();
    check::that(people > 0 && detector.tracks().size() == people && result.ended.empty(), "people are there");
    for (std::size_t at = 0; at < people; ++at)
      check::equal(detector.tracks()[at]->tracker_id(), static_cast<std::int64_t>(at), "numbered from 0");
  }
  const yowo::Result& larger = detector.push({pixels.data(), 16, 16});
  check::equal(larger.ended.size(), people, "all tubes ended");
  for (const yowo::Tube& tube : larger.ended) check::equal(tube.size(), std::size_t{4}, "a box in each frame");
  check::equal(detector.tracks().at(0)->tracker_id(), static_cast<std::int64_t>(people), "others by number");
  check::that(detector.push({pixels.data(), 16, 16}).ended.empty(), "each ended once");
  check::equal(detector.finish().size(), people, "those that were alive");
  check::that(detector.finish().empty() && detector.tracks().empty(), "nobody is left");
  detector.push({pixels.data(), 16, 16}), detector.reset();
  check::that(detector.tracks().empty(), "nobody after reset");
  detector.push({pixels.data(), 8, 4});
  check::equal(detector.tracks().at(0)->tracker_id(), std::int64_t{0}, "numbered from 0 again");
  check::that(detector.finish().empty(), "a tube of one frame is none");
  yowo::Options rarely = shown(0.05);
  rarely.every = 60;
  yowo::Detector patient(std::make_unique<Answers>(), rarely);
  for (int frame = 0; frame < 121; ++frame) {
    const yowo::Result& result = patient.push({pixels.data(), 8, 4});
    check::that(result.ended.empty() && result.detections.tracker_id.at(0) == 0, "followed however rarely it is asked");
  }
  check::equal(patient.finish().at(0).size(), std::size_t{121}, "a box in each frame between");
}

YOWO_TEST(versions_of_libraries_follow_from_their_numbers) {
  const auto same = [](const char* flavour, int number, const char* version) {
    check::equal(yowo::library_version(flavour, number), std::string(version), flavour);
  };
  same("tensorrt", 8601, "8.6.1"), same("tensorrt", 100800, "10.8.0"), same("tensorrt", 101303, "10.13.3");
  same("tensorrt-rtx", 10701, "1.7.1");  // what the library of 1.7.1.116 gives
}

YOWO_TEST(results_are_one_line_of_json) {
  yowo::Result result;
  result.frame_index = 7, result.names = {"a \"b\"\n\\"};
  check::equal(result.to_json(), "{\"v\": 1, \"frame\": 7, \"detections\": []}", "empty");
  auto& found = result.detections;
  found.xyxy = {{1.005f, 2, 319.999f, 0.25f}}, found.confidence = {0.70001f}, found.class_id = {0},
  found.scores = {0.7f}, found.classes = 1;
  found.tracker_id = {12};
  check::equal(result.to_json(),
               "{\"v\": 1, \"frame\": 7, \"detections\": [{\"label\": \"a \\\"b\\\"\\n\\\\\", \"class_id\": 0, "
               "\"confidence\": 0.70001, "
               "\"tracker_id\": 12, \"xyxy\": [1.0, 2.0, 320.0, 0.25]}]}",
               "one");
  const Json again = Json::parse(result.to_json());
  yowo::Result carried;
  carried.source = "a\x01\t\xFF\xE6\x97\xC3\xA9", carried.timestamp = 1.00004, carried.carried = true;
  check::equal(carried.to_json(),
               "{\"v\": 1, \"source\": \"a\\u0001\\t\\udcff\\udce6\\udc97\xC3\xA9\", \"frame\": 0, \"time\": 1.0, "
               "\"carried\": true, \"detections\": []}",
               "carried");
  result.names = {"stand", "walk", "talk"}, result.label_threshold = 0.25;
  found.scores = {0.5f, 0.25f, 0.75f}, found.classes = 3, found.class_id = {2}, found.confidence = {0.75f};
  check::equal(result.to_json(),
               "{\"v\": 1, \"frame\": 7, \"detections\": [{\"label\": \"talk\", \"class_id\": 2, \"confidence\": 0.75, "
               "\"labels\": [{\"label\": \"talk\", \"class_id\": 2, \"confidence\": 0.75}, "
               "{\"label\": \"stand\", \"class_id\": 0, \"confidence\": 0.5}], "
               "\"tracker_id\": 12, \"xyxy\": [1.0, 2.0, 320.0, 0.25]}]}",
               "several labels");
  check::equal(again.at("detections").items[0].at("label").text, "a \"b\"\n\\", "comes back");
}

YOWO_TEST(what_the_fuzzer_began_with_is_read) {
  int files = 0;
  for (const auto& file : std::filesystem::directory_iterator(arguments.at(0) + "/../cpp/corpus")) {
    const std::string bytes = file_text(file.path().string());
    for (std::size_t length = 0; length <= bytes.size(); ++length)  // and every part that is cut off
      LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), length);
    ++files;
  }
  check::that(files > 5, "the corpus is there");
}

namespace {

std::string json_of(const std::string& value) {
  std::string json;
  yowo::append_json_text(json, value);
  return json;
}

template <class Number, class = std::enable_if_t<std::is_arithmetic_v<Number>>>
std::string json_of(Number value) {
  std::ostringstream stream;
  stream << std::boolalpha << std::setprecision(17) << value;
  return stream.str();
}

template <class List, class = typename List::iterator, class = std::enable_if_t<!std::is_same_v<List, std::string>>>
std::string json_of(const List& values) {
  std::string json;
  for (const auto& value : values) json += (json.empty() ? "" : ", ") + json_of(value);
  return "[" + json + "]";
}

std::string described(const std::string& path, const std::string& word) {
  std::ifstream stream(path, std::ios::binary);
  try {
    const bool plan = yowo::is_plan(stream);
    stream.clear();
    stream.seekg(0);
    const std::string content{std::istreambuf_iterator<char>(stream), {}};
    if (plan && !word.empty()) yowo::verify_plan(content, path, word == "trust");
    yowo::ModelSpec spec =
        plan ? yowo::PlanFile::read(stream, path).spec : yowo::OnnxFile::read(stream, path).spec(path);
    std::string json;
    yowo::detail::each_field(spec, [&](const char* field, const auto& value) {
      json += (json.empty() ? "{" : ", ") + json_of(std::string(field)) + ": " + json_of(value);
    });
    return (plan ? "plan " : "onnx ") + json + "}";
  } catch (const yowo::SpecError& error) {
    return std::string("SpecError ") + error.what();
  } catch (const yowo::ModelFileError& error) {
    return std::string("ModelFileError ") + error.what();
  }
}

}  // namespace

// inspect FILE [verify|trust]: every field of the spec in a model file, or the error.
YOWO_TEST(inspect) { std::cout << described(arguments.at(0), arguments.size() > 1 ? arguments.at(1) : "") << "\n"; }

// inspect_all LIST: the same for each of the files that LIST names, one a line.
YOWO_TEST(inspect_all) {
  std::ifstream list(arguments.at(0));
  for (std::string path; std::getline(list, path);) std::cout << described(path, "") << "\n";
}

// form FILE OUTPUT: the graph that an engine gets of the streaming form in a file, or the error.
YOWO_TEST(form) {
  std::ifstream stream(arguments.at(0), std::ios::binary);
  try {
    const yowo::OnnxFile file = yowo::OnnxFile::read(stream, arguments.at(0), true);
    std::ofstream(arguments.at(1), std::ios::binary) << file.model;
    std::cout << (file.spec(arguments.at(0)).streaming ? "streaming" : "clips") << "\n";
  } catch (const yowo::ModelFileError& error) {
    std::cout << "ModelFileError " << error.what() << "\n";
  }
}

// plan_fits FILE FLAVOUR VERSION CAPABILITY: whether it can be loaded there.
YOWO_TEST(plan_fits) {
  std::ifstream stream(arguments.at(0), std::ios::binary);
  try {
    yowo::check_plan(arguments.at(0), yowo::PlanFile::read(stream, arguments.at(0)), arguments.at(1), arguments.at(2),
                     arguments.at(3));
    std::cout << "fits\n";
  } catch (const yowo::ModelFileError& error) {
    std::cout << error.what() << "\n";
  }
}

// speed: microseconds around the engine, of a model like the default one; the least of many, which noise adds to.
YOWO_TEST(speed) {
  auto made = std::make_unique<Answers>();
  Answers& backend = *made;
  yowo::ModelSpec& spec = backend.known;
  spec.labels.clear(), spec.anchors.assign(5, {2.0, 4.0});
  for (int label = 0; label < 21; ++label) spec.labels.push_back(std::to_string(label));
  spec.clip_length = 16, spec.frame_stride = 1, spec.input_size = {224, 224}, spec.stride = 32,
  spec.mean = {0.5, 0.5, 0.5};
  spec.check();
  backend.raw.assign(spec.output_size(), 0);
  std::uint32_t state = 1;
  for (float& value : backend.raw) value = static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) / 4e6f - 2;
  yowo::Detector detector(std::move(made), shown(arguments.empty() ? 0.25 : std::stod(arguments[0])));
  std::vector<std::uint8_t> pixels(3 * 320 * 240);
  for (std::uint8_t& value : pixels) value = static_cast<std::uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  double before = 1e9, after = 1e9;
  std::size_t found = 0;
  for (int frame = 0; frame < 300; ++frame) {
    const yowo::Result& result = detector.push({pixels.data(), 320, 240});
    before = std::min(before, result.speed.preprocess), after = std::min(after, result.speed.postprocess);
    found = result.detections.size();
  }
  std::cout << "preprocess and clip " << 1000 * before << " us, decode and suppression " << 1000 * after << " us, "
            << found << " detections\n";
}

int main(int count, char** words) { return check::run(count, words); }
