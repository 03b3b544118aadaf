// detect VIDEO [MODEL.onnx] [-o OUT.avi]: who does what in a video, as JSON lines; and drawn on it.
#include <cstdio>
#include <iostream>
#include <opencv2/videoio.hpp>
#include <string>
#include <vector>

#include "yowo/opencv.hpp"
#include "yowo/yowo.hpp"

namespace {

void print(const yowo::Detector& detector, const std::vector<yowo::Tube>& ended) {
  for (const yowo::Tube& tube : ended)
    std::cerr << "#" << tube.tracker_id << " " << detector.spec().labels[static_cast<std::size_t>(tube.class_id)] << " "
              << tube.score << ", frames " << tube.frames.front() << " to " << tube.frames.back() << "\n";
}

int run(const std::vector<std::string>& words) {
  std::vector<std::string> names;
  std::string out;
  for (std::size_t at = 0; at < words.size(); ++at) {
    if (words[at] == "-o" && at + 1 < words.size()) {
      out = words[++at];
    } else {
      names.push_back(words[at]);
    }
  }
  if (names.empty() || names.size() > 2) throw yowo::InputError("expected: detect VIDEO [MODEL.onnx] [-o OUT.avi]");

  yowo::Detector detector = yowo::Detector::open(names.size() > 1 ? names[1] : "default");
  cv::VideoCapture video(names[0]);
  if (!video.isOpened()) throw yowo::InputError(names[0] + " cannot be read as a video: give the path of one");
  cv::VideoWriter drawn;
  cv::Mat frame;
  while (video.read(frame)) {
    const yowo::Result& result = detector.push(yowo::frame_view(frame));
    std::cout << result.to_json() << "\n";
    print(detector, result.ended);
    for (const yowo::Track* person : detector.tracks())
      if (person->first_frame() == result.frame_index)
        std::cerr << "#" << person->tracker_id() << " appears in frame " << result.frame_index << "\n";
    if (out.empty()) continue;
    yowo::draw(frame, result);
    if (!drawn.isOpened()) {
      const double rate = video.get(cv::CAP_PROP_FPS);
      drawn.open(out, cv::VideoWriter::fourcc('M', 'J', 'P', 'G'), rate > 0 ? rate : 25, frame.size());
      if (!drawn.isOpened()) throw yowo::InputError(out + " cannot be written: give a path that ends in .avi");
    }
    drawn.write(frame);
  }
  print(detector, detector.finish());
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
