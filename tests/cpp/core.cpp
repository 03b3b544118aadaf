// All of the runtime but its engines, beside the golden data and its own laws.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "allocations.hpp"
#include "check.hpp"
#include "fuzz.cpp"
#include "yowo/yowo.hpp"

namespace {

using yowo::Json;

std::string file_text(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

Json golden(const check::Arguments& arguments, const std::string& name) {
  return Json::parse(file_text(arguments.at(0) + "/" + name + ".json"));
}

template <class Number>
std::vector<Number> unpacked(const Json& value) {
  const std::string bytes = yowo::detail::from_base64(value.text);
  std::vector<Number> numbers(bytes.size() / sizeof(Number));
  if (!numbers.empty()) std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(Number));
  return numbers;
}

int whole(const Json& value) { return static_cast<int>(value.number); }

std::string place(std::size_t index, const std::string& what) { return "case " + std::to_string(index) + ", " + what; }

yowo::Box box_of(const Json& corners) {
  const auto at = [&](std::size_t side) { return static_cast<float>(corners.items[side].number); };
  return {at(0), at(1), at(2), at(3)};
}

void near_box(const yowo::Box& found, const yowo::Box& expected, double tolerance, const std::string& what) {
  check::near(found.x1, expected.x1, tolerance, what + " x1");
  check::near(found.y1, expected.y1, tolerance, what + " y1");
  check::near(found.x2, expected.x2, tolerance, what + " x2");
  check::near(found.y2, expected.y2, tolerance, what + " y2");
}

yowo::ModelSpec small_spec() {
  yowo::ModelSpec spec;
  spec.labels = {"walk", "sit", "stand"};
  spec.anchors = {{1.5, 1.0}, {0.5, 2.0}};
  spec.clip_length = 3, spec.frame_stride = 2, spec.input_size = {8, 4}, spec.stride = 2;
  spec.check();
  return spec;
}

// Answers with what it is given, whatever the clip.
struct Answers final : yowo::Backend {
  yowo::ModelSpec known = small_spec();
  std::vector<float> raw = std::vector<float>(known.output_size(), 0.5f);

  const yowo::ModelSpec& spec() const override { return known; }
  const float* infer(const float*) override { return raw.data(); }
};

}  // namespace

YOWO_TEST(specs_are_those_of_python) {
  const Json all = golden(arguments, "specs");
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
  check::that(index > 70, "the golden file has all its cases");
}

YOWO_TEST(planes_are_those_of_python) {
  std::size_t index = 0;
  const Json all = golden(arguments, "planes");
  for (const Json& each : all.at("cases").items) {
    const yowo::ModelSpec spec = yowo::ModelSpec::from_values(each.at("spec"));
    const int width = whole(each.at("width")), height = whole(each.at("height"));
    const auto frame = unpacked<std::uint8_t>(each.at("frame")), resized = unpacked<std::uint8_t>(each.at("resized"));
    const auto planes = unpacked<float>(each.at("planes"));  // their first two rows
    constexpr std::ptrdiff_t gap = 5;
    std::vector<std::uint8_t> apart(static_cast<std::size_t>((3 * width + gap) * height), 77);
    for (int y = 0; y < height; ++y)
      std::copy_n(frame.begin() + y * 3 * width, 3 * width, apart.begin() + y * (3 * width + gap));
    yowo::Preprocessor preprocess(spec);
    std::vector<float> made(3 * spec.plane_size());
    for (const yowo::FrameView& view : {yowo::FrameView{frame.data(), width, height},
                                        yowo::FrameView{apart.data(), width, height, 3 * width + gap}}) {
      const std::uint8_t* found = preprocess.resize(view);  // (3, H, W), and in the file (H, W, 3)
      int worst = 0;
      for (std::size_t at = 0; at < resized.size(); ++at)
        worst = std::max(worst, std::abs(found[at % 3 * spec.plane_size() + at / 3] - resized[at]));
      check::equal(worst, 0, place(index, spec.resize_filter + " resized"));
      preprocess(view, {made.data(), made.data() + spec.plane_size(), made.data() + 2 * spec.plane_size()});
      const std::size_t rows = 2 * static_cast<std::size_t>(spec.input_size[0]);
      for (std::size_t at = 0; at < planes.size(); ++at)
        check::equal(made[at / rows * spec.plane_size() + at % rows], planes[at],
                     place(index, spec.resize_filter + " planes"));
    }
    ++index;
  }
  check::equal(index, std::size_t{15}, "cases");
}

YOWO_TEST(detections_are_those_of_python) {
  std::size_t index = 0, boxes = 0;
  const Json all = golden(arguments, "detections");
  for (const Json& each : all.at("cases").items) {
    const yowo::ModelSpec spec = yowo::ModelSpec::from_values(each.at("spec"));
    const Json& expected = each.at("expected");
    yowo::Decoder decoder(spec);
    yowo::Detections found;
    const auto& size = each.at("frame_size").items;
    for (int time = 0; time < 2; ++time)  // what the first left behind is not in the second
      decoder.detect(unpacked<float>(each.at("raw")).data(), whole(size[0]), whole(size[1]),
                     each.at("confidence").number, each.at("iou").number, found);
    check::equal(found.size(), expected.at("confidence").items.size(), place(index, "detections"));
    const auto scores = unpacked<float>(expected.at("scores"));
    check::equal(found.scores.size(), scores.size(), place(index, "scores"));
    for (std::size_t row = 0; row < std::min(found.size(), expected.at("confidence").items.size()); ++row) {
      near_box(found.xyxy[row], box_of(expected.at("xyxy").items[row]), 0, place(index, "box"));
      check::near(found.confidence[row], expected.at("confidence").items[row].number, 0, place(index, "confidence"));
      check::equal(found.class_id[row], whole(expected.at("class_id").items[row]), place(index, "class"));
    }
    for (std::size_t at = 0; at < std::min(scores.size(), found.scores.size()); ++at)
      check::equal(found.scores[at], scores[at], place(index, "score"));
    boxes += found.size();
    ++index;
  }
  check::that(index == 7 && boxes > 150, "the golden file has all its cases");
}

namespace {

std::vector<yowo::Detections> frames_of(const Json& values) {
  std::vector<yowo::Detections> frames;
  for (const Json& frame : values.at("frames").items) {
    yowo::Detections found;
    found.classes = whole(values.at("classes"));
    for (std::size_t row = 0; row < frame.at("xyxy").items.size(); ++row) {
      found.xyxy.push_back(box_of(frame.at("xyxy").items[row]));
      for (const Json& score : frame.at("scores").items[row].items)
        found.scores.push_back(static_cast<float>(score.number));
    }
    frames.push_back(found);
  }
  return frames;
}

yowo::LinkRule rule_of(const Json& values) {
  yowo::LinkRule rule;
  const auto number = [&](const char* name, double other) {
    return values.find(name) ? values.at(name).number : other;
  };
  rule.alpha = static_cast<float>(number("alpha", rule.alpha));
  rule.beta = static_cast<float>(number("beta", rule.beta));
  if (values.find("gate")) rule.gate = values.at("gate").boolean;
  rule.max_gap = static_cast<int>(number("max_gap", rule.max_gap));
  if (values.find("max_tubes")) rule.max_tubes = static_cast<std::size_t>(values.at("max_tubes").number);
  if (values.find("trim")) rule.trim = values.at("trim").number;
  rule.trim_score = number("trim_score", rule.trim_score);
  rule.nms_iou = number("nms_iou", rule.nms_iou);
  if (values.find("fill_frames")) rule.fill_frames = values.at("fill_frames").boolean;
  return rule;
}

void same_tubes(const std::vector<yowo::Tube>& found, const Json& expected, const std::string& where) {
  check::equal(found.size(), expected.items.size(), where + ": tubes");
  for (std::size_t at = 0; at < std::min(found.size(), expected.items.size()); ++at) {
    const Json& tube = expected.items[at];
    const std::string what = where + ", tube " + std::to_string(at);
    check::equal(found[at].class_id, whole(tube.at("class_id")), what + " class");
    check::equal(static_cast<int>(found[at].tracker_id), whole(tube.at("tracker_id")), what + " person");
    check::near(found[at].score, tube.at("score").number, 1e-6, what + " score");
    check::equal(found[at].size(), tube.at("xyxy").items.size(), what + " length");
    for (std::size_t row = 0; row < std::min(found[at].size(), tube.at("xyxy").items.size()); ++row) {
      check::equal(found[at].frames[row], whole(tube.at("first")) + static_cast<int>(row), what + " frame");
      near_box(found[at].xyxy[row], box_of(tube.at("xyxy").items[row]), 1e-4, what);  // what the file rounds to
      check::near(found[at].scores[row], tube.at("scores").items[row].number, 1e-6, what + " score");
    }
  }
}

}  // namespace

YOWO_TEST(tubes_of_whole_videos_are_those_of_python) {
  const Json all = golden(arguments, "tubes");
  std::size_t index = 0, tubes = 0;
  for (const Json& each : all.at("cases").items) {
    const Json& rules = all.at("rules");
    for (std::size_t at = 0; at < rules.names.size(); ++at) {
      const auto found = yowo::link(frames_of(each), rule_of(rules.items[at]));
      same_tubes(found, each.at("offline").at(rules.names[at]), place(index, rules.names[at]));
      tubes += found.size();
    }
    ++index;
  }
  check::that(index == 5 && tubes > 50, "the golden file has all its cases");
}

YOWO_TEST(tubes_of_running_videos_are_those_of_python) {
  std::size_t index = 0;
  const Json all = golden(arguments, "tubes");
  for (const Json& each : all.at("cases").items) {
    yowo::OnlineLinker linker(3, 0.2, 6);
    std::vector<yowo::Detections> frames = frames_of(each);
    for (std::size_t frame = 0; frame < frames.size(); ++frame) {
      const auto& alive = linker.push(frames[frame]);
      const Json& expected = each.at("online").items[frame];
      const std::string where = place(index, "frame " + std::to_string(frame));
      check::equal(frames[frame].tracker_id.size(), expected.at("tracker_id").items.size(), where);
      for (std::size_t row = 0; row < frames[frame].tracker_id.size(); ++row)
        check::equal(frames[frame].tracker_id[row], whole(expected.at("tracker_id").items[row]), where + " person");
      check::equal(alive.size(), expected.at("alive").items.size(), where + " alive");
      for (std::size_t at = 0; at < alive.size(); ++at) {
        const auto& told = expected.at("alive").items[at].items;
        check::equal(alive[at]->tracker_id(), whole(told[0]), where);
        check::equal(alive[at]->class_id(), whole(told[1]), where + " class");
        check::equal(alive[at]->first_frame(), whole(told[2]), where + " first frame");
        check::near(alive[at]->score(), told[3].number, 1e-8, where + " score");
      }
    }
    same_tubes(linker.close(), each.at("ended"), place(index, "ended"));
    ++index;
  }
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

YOWO_TEST(nothing_is_allocated_once_the_stream_runs) {
  auto made = std::make_unique<Answers>();
  made->known.mean = {0.5, 0.5, 0.5};
  Answers& backend = *made;
  yowo::Detector detector(std::move(made), 0.0, 1.0);  // every candidate is a detection
  yowo::OnlineLinker linker(5, 0.2, 8);
  std::vector<std::uint8_t> pixels(3 * 40 * 30, 100);
  const auto push = [&](int frame) {
    for (std::size_t at = 0; at < backend.raw.size(); ++at)
      backend.raw[at] = static_cast<float>(at % 7) * 0.1f + static_cast<float>(frame % 3) * 0.01f;
    pixels[static_cast<std::size_t>(frame % 100)] ^= 255;
    return linker.push(detector.push({pixels.data(), 40, 30}).detections).size();
  };
  for (int frame = 0; frame < 40; ++frame) push(frame);
  const std::size_t before = check::allocations;
  std::size_t people = 0;
  for (int frame = 40; frame < 200; ++frame) people += push(frame);
  check::equal(check::allocations, before, "allocations");
  check::that(people > 160, "somebody was there");
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
      "frame 0: the model answers with NaN", "NaN");
  backend.raw[5] = 0;
  check::equal(detector.push({pixels.data(), 8, 4}).frame_index, 1, "goes on after an error");
  detector.reset();
  check::equal(detector.push({pixels.data(), 8, 4}).frame_index, 0, "after reset");
  check::throws<yowo::InputError>([&] { yowo::OnlineLinker(-1); }, "expected at least 0 and 1", "patience");
  yowo::OnlineLinker linker;
  yowo::Detections one, nobody, two;
  one.classes = 1, one.xyxy.resize(1), one.scores = {0.5f};
  two.classes = 2, two.xyxy.resize(1), two.scores = {0.5f, 0.5f};
  linker.push(one), linker.push(nobody);
  check::throws<yowo::InputError>([&] { linker.push(two); }, "have 2 classes, those before had 1", "classes");
  check::throws<yowo::InputError>([&] { yowo::Detector(std::make_unique<Answers>(), 1.5); }, "expected 0 to 1",
                                  "confidence");
  check::throws<yowo::InputError>([&] { yowo::Detector::open("nowhere.onnx"); }, "not there", "no file");
  check::throws<yowo::InputError>([&] { yowo::Detector::open(arguments.at(0)); }, "is a folder", "folder");
}

YOWO_TEST(results_are_one_line_of_json) {
  yowo::Result result;
  result.frame_index = 7, result.names = {"a \"b\"\n\\"};
  check::equal(result.to_json(), "{\"frame\": 7, \"detections\": []}", "empty");
  auto& found = result.detections;
  found.xyxy = {{1.005f, 2, 319.999f, 0.25f}}, found.confidence = {0.70001f}, found.class_id = {0},
  found.scores = {0.7f}, found.classes = 1;
  found.tracker_id = {12};
  check::equal(result.to_json(),
               "{\"frame\": 7, \"detections\": [{\"label\": \"a \\\"b\\\"\\u000a\\\\\", \"class_id\": 0, "
               "\"confidence\": 0.70001, "
               "\"tracker_id\": 12, \"xyxy\": [1.0, 2.0, 320.0, 0.25]}]}",
               "one");
  const Json again = Json::parse(result.to_json());
  check::equal(again.at("detections").items[0].at("label").text, result.names[0], "comes back");
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

YOWO_TEST(deflate_gives_back_what_zlib_packed) {
  for (const char* name : {"deflate", "deflate_fixed", "deflate_stored"}) {
    const std::string text =
        yowo::detail::Inflate::of(file_text(arguments.at(0) + "/../cpp/corpus/" + name).substr(1), 1 << 20);
    const std::string part = std::string(name) == "deflate"         ? "\"clip_length\": 3"
                             : std::string(name) == "deflate_fixed" ? "abcabcabcabcabc"
                                                                    : "hello there";
    check::that(text.find(part) != std::string::npos, name);
  }
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
  for (const auto& value : values) json += (json.empty() ? "[" : ", ") + json_of(value);
  return json + "]";
}

}  // namespace

// inspect FILE [verify|trust]: every field of the spec in a model file, or the error.
YOWO_TEST(inspect) {
  std::ifstream stream(arguments.at(0), std::ios::binary);
  try {
    const bool plan = yowo::is_plan(stream);
    if (plan && arguments.size() > 1) yowo::verify_plan(stream, arguments.at(0), arguments.at(1) == "trust");
    yowo::ModelSpec spec = plan ? yowo::PlanFile::read(stream, arguments.at(0)).spec
                                : yowo::OnnxFile::read(stream, arguments.at(0)).spec(arguments.at(0));
    std::string json;
    yowo::detail::each_field(spec, [&](const char* field, const auto& value) {
      json += (json.empty() ? "{" : ", ") + json_of(std::string(field)) + ": " + json_of(value);
    });
    std::cout << (plan ? "plan " : "onnx ") << json << "}\n";
  } catch (const yowo::SpecError& error) {
    std::cout << "SpecError " << error.what() << "\n";
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

// resize FILTER WIDTH HEIGHT WIDTH_OUT HEIGHT_OUT IN OUT: a raw BGR frame to planes.
YOWO_TEST(resize) {
  yowo::ModelSpec spec = small_spec();
  spec.resize_filter = arguments.at(0), spec.stride = 1;
  spec.input_size = {std::stoi(arguments.at(3)), std::stoi(arguments.at(4))};
  spec.check();
  const std::string pixels = file_text(arguments.at(5));
  yowo::Preprocessor preprocess(spec);
  const std::uint8_t* made = preprocess.resize(
      {reinterpret_cast<const std::uint8_t*>(pixels.data()), std::stoi(arguments.at(1)), std::stoi(arguments.at(2))});
  std::ofstream(arguments.at(6), std::ios::binary)
      .write(reinterpret_cast<const char*>(made), static_cast<std::streamsize>(3 * spec.plane_size()));
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
  yowo::Detector detector(std::move(made), arguments.empty() ? 0.25 : std::stod(arguments[0]));
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
