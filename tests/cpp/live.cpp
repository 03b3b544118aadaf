// live MODEL FRAMES WIDTH HEIGHT CONFIDENCE [STRIDE]: detections and tubes of raw BGR frames, as JSON with every digit.
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

void print(const std::vector<yowo::Tube>& tubes) {
  std::cout << "[";
  for (std::size_t at = 0; at < tubes.size(); ++at) {
    const yowo::Tube& tube = tubes[at];
    std::cout << (at ? ", " : "") << "[" << tube.class_id << ", " << tube.tracker_id << ", " << tube.frames.front()
              << ", " << tube.frames.back() << ", " << tube.score << "]";
  }
  std::cout << "]";
}

int run(const std::vector<std::string>& words) {
  const int width = std::stoi(words.at(2)), height = std::stoi(words.at(3));
  yowo::Options options;
  options.confidence = std::stod(words.at(4));
  yowo::Detector detector = yowo::Detector::open(words.at(0), options);
  yowo::OnlineLinker linker;
  std::vector<double> around, engine;
  std::ifstream stream(words.at(1), std::ios::binary);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(3 * width * height));
  std::cout << std::setprecision(17);
  while (stream.read(reinterpret_cast<char*>(pixels.data()), static_cast<std::streamsize>(pixels.size()))) {
    yowo::Result& result = detector.push({pixels.data(), width, height});
    linker.push(result.detections);
    const yowo::Detections& found = result.detections;
    std::cout << "{\"frame\": " << result.frame_index << ", \"found\": [";
    for (std::size_t row = 0; row < found.size(); ++row) {
      const yowo::Box& box = found.xyxy[row];
      std::cout << (row ? ", [" : "[") << box.x1 << ", " << box.y1 << ", " << box.x2 << ", " << box.y2 << ", "
                << found.confidence[row] << ", " << found.class_id[row] << ", " << found.tracker_id[row] << "]";
    }
    std::cout << "]}\n";
    around.push_back(result.speed.preprocess + result.speed.postprocess);
    engine.push_back(result.speed.infer);
  }
  const auto middle = [](std::vector<double>& values) {
    std::sort(values.begin(), values.end());
    return values.empty() ? 0.0 : values[values.size() / 2];
  };
  std::cout << "{\"tubes\": ";
  print(linker.close());
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
