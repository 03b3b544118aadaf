// live MODEL FRAMES WIDTH HEIGHT [NAME=NUMBER ...]: results of raw BGR frames, JSON; options by name, and backend=NAME.
//
// Frames are decoded by others, so that what is compared is this runtime alone. The last line is of all frames.
#include <algorithm>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <memory>
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
    if (name == "backend") {
      options.backend = words[at].substr(sign + 1);
      continue;
    }
    const double value = std::stod(words[at].substr(sign + 1));
    if (name == "confidence") options.confidence = value;
    if (name == "keep") options.keep = value;
    if (name == "tube_scores") options.tube_scores = static_cast<int>(value);
    if (name == "cuts") options.cuts = static_cast<int>(value);
    if (name == "parallel") options.parallel = static_cast<int>(value);
    if (name == "threads") options.threads = static_cast<int>(value);
    if (name == "every") options.every = static_cast<int>(value);
    if (name == "clips") options.clips = value > 0;
  }
  return options;
}

// Frames of a file, one after the other.
struct Frames {
  Frames(const std::string& path, int across, int down)
      : width(across),
        height(down),
        stream(path, std::ios::binary),
        pixels(static_cast<std::size_t>(3 * across * down)) {}

  yowo::FrameView read() {
    const auto size = static_cast<std::streamsize>(pixels.size());
    return stream.read(reinterpret_cast<char*>(pixels.data()), size) ? yowo::FrameView{pixels.data(), width, height}
                                                                     : yowo::FrameView{};
  }

  int width, height;
  std::ifstream stream;
  std::vector<std::uint8_t> pixels;
};

// Lines of several streams of the same frames, each with its name as source.
int run_pool(const std::vector<std::string>& words, int streams, const yowo::Options& options) {
  const auto show = [](const std::string&, const yowo::Result& result) { std::cout << result.to_json() << "\n"; };
  yowo::StreamPool pool(words.at(0), show, options);
  for (int number = 0; number < streams; ++number) {
    const auto frames = std::make_shared<Frames>(words.at(1), std::stoi(words.at(2)), std::stoi(words.at(3)));
    pool.add(std::to_string(number), [frames] { return frames->read(); });
  }
  for (const auto& [name, error] : pool.wait()) throw yowo::YowoError(name + ": " + error);
  return 0;
}

int run(const std::vector<std::string>& words) {
  const yowo::Options options = options_of(words, 4);
  for (const std::string& word : words)
    if (word.rfind("pool=", 0) == 0) return run_pool(words, std::stoi(word.substr(5)), options);
  yowo::Detector detector = yowo::Detector::open(words.at(0), options);
  std::vector<double> around;
  std::clock_t cpu = 0;  // of the process, in pushes
  Frames frames(words.at(1), std::stoi(words.at(2)), std::stoi(words.at(3)));
  std::cout << std::setprecision(17);
  const auto show = [&](const yowo::Result& result) {
    std::cout << "{\"frame\": " << result.frame_index << ", \"found\": ", print(result.detections);
    std::vector<yowo::Tube> tubes;
    for (const yowo::Track* track : detector.tracks()) tubes.push_back(track->tube());
    std::cout << ", \"tubes\": ", print(tubes);
    std::cout << ", \"ended\": ", print(result.ended);
    std::cout << ", \"json\": " << result.to_json() << "}\n";
    around.push_back(result.speed.preprocess + result.speed.postprocess + result.speed.link);
  };
  if (options.parallel > 1) {
    detector.stream([&] { return frames.read(); }, show, "a \"film\"");
  } else {
    detector.reset("a \"film\"");
    for (yowo::FrameView frame = frames.read(); frame.data; frame = frames.read()) {
      const std::clock_t begun = std::clock();
      const yowo::Result& result = detector.push(frame, static_cast<double>(around.size()) / 30);
      cpu += std::clock() - begun;
      show(result);
    }
  }
  std::sort(around.begin(), around.end());
  const double seconds = static_cast<double>(cpu) / CLOCKS_PER_SEC;
  std::cout << "{\"tubes\": ";
  print(detector.finish());
  if (!around.empty())
    std::cout << ", \"around_ms\": " << around[around.size() / 2]
              << ", \"cpu_ms\": " << 1000 * seconds / static_cast<double>(around.size());
  std::cout << "}\n";
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
