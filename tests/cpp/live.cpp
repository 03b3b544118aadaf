// live MODEL FRAMES WIDTH HEIGHT [NAME=NUMBER ...]: results of raw BGR frames, JSON with every digit; options by name.
//
// Frames are decoded by others, so that what is compared is this runtime alone. The last line is of all frames.
#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

#include "yowo/yowo.hpp"

namespace {

template <class Number>
void print(const std::vector<Number>& numbers) {
  std::cout << "[";
  for (std::size_t at = 0; at < numbers.size(); ++at) std::cout << (at ? ", " : "") << numbers[at];
  std::cout << "]";
}

void print(const std::vector<yowo::Box>& boxes) {
  std::vector<float> corners;
  for (const yowo::Box& box : boxes) corners.insert(corners.end(), {box.x1, box.y1, box.x2, box.y2});
  print(corners);
}

void print(const yowo::Detections& found) {
  std::cout << "{\"xyxy\": ", print(found.xyxy);
  std::cout << ", \"confidence\": ", print(found.confidence);
  std::cout << ", \"class_id\": ", print(found.class_id);
  std::cout << ", \"scores\": ", print(found.scores);
  std::cout << ", \"objectness\": ", print(found.objectness);
  std::cout << ", \"tracker_id\": ", print(found.tracker_id);
  std::cout << "}";
}

void print(const std::vector<yowo::Tube>& tubes) {
  std::cout << "[";
  for (std::size_t at = 0; at < tubes.size(); ++at) {
    const yowo::Tube& tube = tubes[at];
    std::cout << (at ? ", " : "") << "{\"class_id\": " << tube.class_id << ", \"tracker_id\": " << tube.tracker_id
              << ", \"score\": " << tube.score << ", \"frames\": ", print(tube.frames);
    std::cout << ", \"xyxy\": ", print(tube.xyxy);
    std::cout << ", \"scores\": ", print(tube.scores);
    std::cout << ", \"class_scores\": ", print(tube.class_scores);
    std::cout << "}";
  }
  std::cout << "]";
}

yowo::Options options_of(const std::vector<std::string>& words, std::size_t from) {
  yowo::Options options;
  for (std::size_t at = from; at < words.size(); ++at) {
    const std::size_t sign = words[at].find('=');
    const std::string name = words[at].substr(0, sign);
    const double value = std::stod(words[at].substr(sign + 1));
    if (name == "confidence") options.confidence = value;
    if (name == "keep") options.keep = value;
    if (name == "tube_scores") options.tube_scores = static_cast<int>(value);
    if (name == "cuts") options.cuts = static_cast<int>(value);
    if (name == "every") options.every = static_cast<int>(value);
    if (name == "clips") options.clips = value > 0;
  }
  return options;
}

int run(const std::vector<std::string>& words) {
  const int width = std::stoi(words.at(2)), height = std::stoi(words.at(3));
  const yowo::Options options = options_of(words, 4);
  yowo::Detector detector = yowo::Detector::open(words.at(0), options);
  detector.reset("a \"film\"");
  std::vector<double> around, engine;
  std::ifstream stream(words.at(1), std::ios::binary);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(3 * width * height));
  std::cout << std::setprecision(17);
  while (stream.read(reinterpret_cast<char*>(pixels.data()), static_cast<std::streamsize>(pixels.size()))) {
    const yowo::Result& result = detector.push({pixels.data(), width, height}, static_cast<double>(around.size()) / 30);
    std::cout << "{\"frame\": " << result.frame_index << ", \"found\": ", print(result.detections);
    std::vector<yowo::Tube> tubes;
    for (const yowo::Track* track : detector.tracks()) tubes.push_back(track->tube());
    std::cout << ", \"tubes\": ", print(tubes);
    std::cout << ", \"ended\": ", print(result.ended);
    std::cout << ", \"json\": " << result.to_json() << "}\n";
    around.push_back(result.speed.preprocess + result.speed.postprocess + result.speed.link);
    engine.push_back(result.speed.infer);
  }
  const auto middle = [](std::vector<double>& values) {
    std::sort(values.begin(), values.end());
    return values.empty() ? 0.0 : values[values.size() / 2];
  };
  std::cout << "{\"tubes\": ";
  print(detector.finish());
  std::cout << ", \"around_ms\": " << middle(around) << ", \"engine_ms\": " << middle(engine) << "}\n";
  return 0;
}

}  // namespace

int main(int count, char** words) {
  try {
    return run({words + 1, words + count});
  } catch (const yowo::YowoError& error) {
    std::cerr << "Error: " << error.what() << "\n";
    return 1;
  }
}
