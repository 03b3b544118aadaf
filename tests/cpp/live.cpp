// live MODEL FRAMES WIDTH HEIGHT CONFIDENCE [KEEP TUBE_SCORES CUTS]: results of raw BGR frames, JSON with every digit.
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

int run(const std::vector<std::string>& words) {
  const int width = std::stoi(words.at(2)), height = std::stoi(words.at(3));
  yowo::Options options;
  options.confidence = std::stod(words.at(4));
  if (words.size() > 7)
    options.keep = std::stod(words[5]), options.tube_scores = std::stoi(words[6]), options.cuts = std::stoi(words[7]);
  yowo::Detector detector = yowo::Detector::open(words.at(0), options);
  std::vector<double> around, engine;
  std::ifstream stream(words.at(1), std::ios::binary);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(3 * width * height));
  std::cout << std::setprecision(17);
  while (stream.read(reinterpret_cast<char*>(pixels.data()), static_cast<std::streamsize>(pixels.size()))) {
    const yowo::Result& result = detector.push({pixels.data(), width, height});
    std::cout << "{\"frame\": " << result.frame_index << ", \"found\": ", print(result.detections);
    std::vector<yowo::Tube> tubes;
    for (const yowo::Track* track : detector.tracks()) tubes.push_back(track->tube());
    std::cout << ", \"tubes\": ", print(tubes);
    std::cout << ", \"ended\": ", print(result.ended);
    std::cout << "}\n";
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
