// Planes, detections and tubes are those of Python to the bit, whatever the processor and the compiler make of them.
//
// Compiled with fused multiply-adds wherever the code allows them, which round once where numpy rounds twice.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "check.hpp"
#include "golden.hpp"
#include "yowo/boxes.hpp"
#include "yowo/postprocess/decode.hpp"
#include "yowo/postprocess/linker.hpp"
#include "yowo/postprocess/zones.hpp"
#include "yowo/preprocess/cuts.hpp"
#include "yowo/preprocess/frames.hpp"

namespace {

using golden::place;
using golden::whole;
using yowo::Json;

template <class Number>
std::vector<Number> numbers_of(const Json& list) {
  std::vector<Number> numbers;
  for (const Json& each : list.items) numbers.push_back(static_cast<Number>(each.number));
  return numbers;
}

void same_box(const yowo::Box& found, const Json& expected, const std::string& what) {
  const auto corners = numbers_of<float>(expected);
  check::that(corners.size() == 4 && found.x1 == corners[0] && found.y1 == corners[1] && found.x2 == corners[2] &&
                  found.y2 == corners[3],
              what);
}

void same_detections(const yowo::Detections& found, const Json& expected, const std::string& what) {
  check::equal(found.size(), expected.at("xyxy").items.size(), what);
  for (std::size_t row = 0; row < std::min(found.size(), expected.at("xyxy").items.size()); ++row)
    same_box(found.xyxy[row], expected.at("xyxy").items[row], what + ", box");
  check::that(found.confidence == numbers_of<float>(expected.at("confidence")), what + ", confidence");
  check::that(found.class_id == numbers_of<int>(expected.at("class_id")), what + ", classes");
  check::that(found.scores == numbers_of<float>(expected.at("scores")), what + ", scores");
  check::that(found.objectness == numbers_of<float>(expected.at("objectness")), what + ", objectness");
}

}  // namespace

YOWO_TEST(planes_are_those_of_python) {
  std::size_t index = 0;
  const Json all = golden::read(arguments, "planes");
  for (const Json& each : all.at("cases").items) {
    const yowo::ModelSpec spec = yowo::ModelSpec::from_values(each.at("spec"));
    const int width = whole(each.at("width")), height = whole(each.at("height"));
    const auto frame = numbers_of<std::uint8_t>(each.at("frame")), resized = numbers_of<std::uint8_t>(each.at("resized"));
    const auto planes = numbers_of<float>(each.at("planes"));  // their first two rows
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
  const Json all = golden::read(arguments, "detections");
  for (const Json& each : all.at("cases").items) {
    const yowo::ModelSpec spec = yowo::ModelSpec::from_values(each.at("spec"));
    const Json& expected = each.at("expected");
    yowo::Decoder decoder(spec);
    yowo::Detections found;
    const auto& size = each.at("frame_size").items;
    for (int time = 0; time < 2; ++time)  // what the first left behind is not in the second
      decoder.detect(numbers_of<float>(each.at("raw")).data(), whole(size[0]), whole(size[1]),
                     each.at("confidence").number, each.at("iou").number, found, each.at("keep").number);
    same_detections(found, expected, place(index, "detections"));
    boxes += found.size();
    ++index;
  }
  check::that(index == 9 && boxes > 170, "the golden file has all its cases");
}

namespace {

std::vector<yowo::Detections> frames_of(const Json& values) {
  std::vector<yowo::Detections> frames;
  for (const Json& frame : values.at("frames").items) {
    yowo::Detections found;
    found.classes = whole(values.at("classes"));
    for (std::size_t row = 0; row < frame.at("xyxy").items.size(); ++row) {
      const auto box = numbers_of<float>(frame.at("xyxy").items[row]);
      const auto scores = numbers_of<float>(frame.at("scores").items[row]);
      found.xyxy.push_back({box.at(0), box.at(1), box.at(2), box.at(3)});
      found.scores.insert(found.scores.end(), scores.begin(), scores.end());
      const auto best = std::max_element(scores.begin(), scores.end());
      found.confidence.push_back(*best);
      found.class_id.push_back(static_cast<int>(best - scores.begin()));
    }
    if (const Json* objectness = frame.find("objectness")) found.objectness = numbers_of<float>(*objectness);
    frames.push_back(found);
  }
  return frames;
}

void same_tubes(const std::vector<yowo::Tube>& found, const Json& expected, const std::string& where) {
  check::equal(found.size(), expected.items.size(), where + ": tubes");
  for (std::size_t at = 0; at < std::min(found.size(), expected.items.size()); ++at) {
    const Json& tube = expected.items[at];
    const std::string what = where + ", tube " + std::to_string(at);
    check::equal(found[at].class_id, whole(tube.at("class_id")), what + " class");
    check::equal(static_cast<int>(found[at].tracker_id), whole(tube.at("tracker_id")), what + " person");
    check::equal(found[at].score, tube.at("score").number, what + " score");
    check::that(found[at].class_scores == numbers_of<float>(tube.at("class_scores")), what + " class scores");
    check::that(found[at].scores == numbers_of<float>(tube.at("scores")), what + " scores");
    check::equal(found[at].size(), tube.at("xyxy").items.size(), what + " length");
    for (std::size_t row = 0; row < std::min(found[at].size(), tube.at("xyxy").items.size()); ++row) {
      check::equal(found[at].frames[row], whole(tube.at("first")) + static_cast<int>(row), what + " frame");
      same_box(found[at].xyxy[row], tube.at("xyxy").items[row], what + " box");
    }
  }
}

}  // namespace

YOWO_TEST(tubes_are_those_of_python) {
  std::size_t index = 0, tubes = 0;
  const Json all = golden::read(arguments, "tubes");
  for (const Json& each : all.at("cases").items) {
    const Json* given = each.find("linker");
    const auto option = [&](const char* name, double fallback) {
      const Json* value = given ? given->find(name) : nullptr;
      return value ? value->number : fallback;
    };
    yowo::OnlineLinker linker(3, 0.2, 6, 0.5, 8, static_cast<int>(option("min_frames", 1)), option("decay", 0),
                              option("appear", -1), option("keep", -1));
    std::vector<yowo::Detections> frames = frames_of(each);
    for (std::size_t frame = 0; frame < frames.size(); ++frame) {
      const Json* number = each.at("frames").items[frame].find("number");
      const auto& alive = linker.push(frames[frame], number ? whole(*number) : -1);
      const Json& expected = each.at("online").items[frame];
      const std::string where = place(index, "frame " + std::to_string(frame));
      if (given) same_detections(frames[frame], expected, where);
      check::equal(frames[frame].tracker_id.size(), expected.at("tracker_id").items.size(), where);
      for (std::size_t row = 0; row < frames[frame].tracker_id.size(); ++row)
        check::equal(frames[frame].tracker_id[row], whole(expected.at("tracker_id").items[row]), where + " person");
      check::equal(alive.size(), expected.at("alive").items.size(), where + " alive");
      for (std::size_t at = 0; at < alive.size(); ++at) {
        const auto& told = expected.at("alive").items[at].items;
        check::equal(alive[at]->tracker_id(), whole(told[0]), where);
        check::equal(alive[at]->class_id(), whole(told[1]), where + " class");
        check::equal(alive[at]->first_frame(), whole(told[2]), where + " first frame");
        check::equal(alive[at]->score(), told[3].number, where + " score");
      }
    }
    const std::vector<yowo::Tube> ended = linker.close();
    same_tubes(ended, each.at("ended"), place(index, "ended"));
    tubes += ended.size();
    ++index;
  }
  check::that(index == 10 && tubes > 30, "the golden file has all its cases");
}

YOWO_TEST(zones_are_those_of_python) {
  const auto same = [](const auto& found, const Json& expected, const std::string& where) {
    check::equal(found.size(), expected.items.size(), where);
    for (std::size_t at = 0; at < found.size(); ++at)
      check::equal(static_cast<double>(found[at]), expected.items[at].number, where);
  };
  std::size_t index = 0;
  const Json all = golden::read(arguments, "zones");
  for (const Json& each : all.at("cases").items) {
    std::vector<yowo::Zone> zones;
    for (const Json& corners : each.at("zones").items) {
      zones.push_back({std::to_string(zones.size()), {}});
      for (const Json& corner : corners.items)
        zones.back().corners.push_back({corner.items[0].number, corner.items[1].number});
    }
    const auto anchor = each.at("anchor").text == "bottom" ? yowo::ZoneAnchor::bottom : yowo::ZoneAnchor::center;
    yowo::Zones under_test(zones, anchor, each.at("patience").number);
    for (std::size_t frame = 0; frame < each.at("frames").items.size(); ++frame) {
      const Json& given = each.at("frames").items[frame];
      yowo::Detections found;
      for (std::size_t row = 0; row < given.at("tracker_id").items.size(); ++row) {
        const auto& box = given.at("xyxy").items[row].items;
        const auto side = [&](std::size_t at) { return static_cast<float>(box[at].number); };
        found.xyxy.push_back({side(0), side(1), side(2), side(3)});
        found.tracker_id.push_back(whole(given.at("tracker_id").items[row]));
      }
      const auto& size = each.at("size").items;
      const auto present = under_test.push(found, whole(size[0]), whole(size[1]), given.at("seconds").number);
      const auto& expected = each.at("expected").items[frame].items;
      const std::string where = place(index, "frame " + std::to_string(frame));
      check::equal(present.size(), expected.size(), where);
      for (const Json& told : expected) {
        const yowo::Presence& said = present.at(whole(told.items[0]));
        same(said.zones, told.items[1], where + " zones");
        same(said.entered, told.items[2], where + " entered");
        same(said.dwell, told.items[3], where + " dwell");
      }
    }
    ++index;
  }
  check::equal(index, std::size_t{4}, "the golden file has all its cases");
  using Corners = std::vector<std::array<double, 2>>;
  const Corners sound{{0.1, 0.1}, {0.9, 0.1}, {0.5, 0.9}};
  const auto refused = [](std::vector<yowo::Zone> zones, const char* said) {
    check::throws<yowo::InputError>([&] { yowo::Zones made(std::move(zones)); }, said, said);
  };
  refused({{"yard", {{0, 0}, {1, 0}, {2, 1}}}}, "0 to 1");
  for (const char* name : {"", "  ", "ya\nrd", "ya\x7frd"}) refused({{name, sound}}, "printable");
  refused({{std::string(101, 'a'), sound}}, "printable");
  refused({{"yard", {{0, 0}, {1, 0}}}}, "2 corners");
  refused({{"yard", Corners(1001, {0.5, 0.5})}}, "1001 corners");
  refused({{"yard", {{0.25, 0.25}, {0.5, 0.5}, {1, 1}, {0, 0}}}}, "no area");
  refused({{"yard", Corners(3, {0.5, 0.5})}}, "no area");
  refused({{"yard", sound}, {"door", sound}, {"yard", sound}}, "different names");
  std::vector<yowo::Zone> zones;
  while (zones.size() < 100) zones.push_back({std::to_string(zones.size()), sound});
  std::string letters;
  for (int each = 0; each < 100; ++each) letters += "\xc3\xb6";
  zones.back().name = letters;
  yowo::Zones most(zones);
  zones.push_back({"one more", sound});
  refused(zones, "up to 100");
}

// Also where a product and a sum would round otherwise, as of a mean that a byte has: its zero is exact.
YOWO_TEST(every_byte_is_normalised_to_its_bits) {
  yowo::ModelSpec spec = golden::small_spec();
  spec.stride = 1, spec.input_size = {256, 1}, spec.colour = "bgr";
  std::vector<std::uint8_t> row(3 * 256);
  for (std::size_t at = 0; at < row.size(); ++at) row[at] = static_cast<std::uint8_t>(at / 3);
  std::vector<float> made(3 * 256);
  for (int place = -20; place <= 300; ++place)
    for (const double std : {1.0, 0.225, 0.3, 1.0 / 255}) {
      const double mean = place / 255.0;
      spec.mean = {mean, mean + 0.001, 0.1 * place}, spec.std = {std, 0.7 * std, std};
      yowo::Preprocessor preprocess(spec);
      preprocess({row.data(), 256, 1}, {made.data(), made.data() + 256, made.data() + 512});
      for (std::size_t at = 0; at < made.size(); ++at) {
        const std::size_t channel = at / 256;
        const double share = static_cast<double>(at % 256) / 255;
        const auto expected = static_cast<float>((share - spec.mean[channel]) / spec.std[channel]);
        check::equal(made[at], expected, "byte " + std::to_string(at % 256) + " of mean " + std::to_string(mean));
      }
    }
}

// resize FILTER WIDTH HEIGHT WIDTH_OUT HEIGHT_OUT IN OUT: a raw BGR frame to planes.
YOWO_TEST(resize) {
  yowo::ModelSpec spec = golden::small_spec();
  spec.resize_filter = arguments.at(0), spec.stride = 1;
  spec.input_size = {std::stoi(arguments.at(3)), std::stoi(arguments.at(4))};
  spec.check();
  const std::string pixels = golden::file_text(arguments.at(5));
  yowo::Preprocessor preprocess(spec);
  const std::uint8_t* made = preprocess.resize(
      {reinterpret_cast<const std::uint8_t*>(pixels.data()), std::stoi(arguments.at(1)), std::stoi(arguments.at(2))});
  std::ofstream(arguments.at(6), std::ios::binary)
      .write(reinterpret_cast<const char*>(made), static_cast<std::streamsize>(3 * spec.plane_size()));
}

// cuts WIDTH HEIGHT FRAMES: of raw BGR frames, 1 where another scene begins, else 0.
YOWO_TEST(cuts) {
  const int width = std::stoi(arguments.at(0)), height = std::stoi(arguments.at(1));
  const std::string pixels = golden::file_text(arguments.at(2));
  const std::size_t size = 3 * static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  yowo::CutDetector detector;
  for (std::size_t at = 0; at < pixels.size(); at += size)
    std::cout << detector.push({reinterpret_cast<const std::uint8_t*>(pixels.data() + at), width, height});
  detector.reset();
  check::that(!detector.push({reinterpret_cast<const std::uint8_t*>(pixels.data()), width, height}), "a new video");
}

int main(int count, char** words) { return check::run(count, words); }
