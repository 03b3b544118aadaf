// OpenCV's images as frames, and results drawn on them. The one header that needs OpenCV.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <string>

#include "yowo/detector.hpp"
#include "yowo/errors.hpp"
#include "yowo/preprocess/frames.hpp"

namespace yowo {

// A view of an image, which must outlive it. Throws InputError: it is not BGR of 8 bits, or is empty.
inline FrameView frame_view(const cv::Mat& image) {
  if (image.empty() || image.type() != CV_8UC3)
    throw InputError(detail::text("image is ", image.cols, " x ", image.rows, " of OpenCV's type ", image.type(),
                                  ", expected CV_8UC3 in BGR"));
  return {image.data, image.cols, image.rows, static_cast<std::ptrdiff_t>(image.step[0])};
}

// The colour of a class or person, always the same; Okabe and Ito's palette, as `yowo_deploy/visuals/draw.py`.
inline cv::Scalar colour_of(std::int64_t number) {
  static const std::array<cv::Scalar, 7> palette{
      cv::Scalar(0, 159, 230), cv::Scalar(233, 180, 86), cv::Scalar(115, 158, 0),  cv::Scalar(66, 228, 240),
      cv::Scalar(178, 114, 0), cv::Scalar(0, 94, 213),   cv::Scalar(167, 121, 204)};
  return palette[static_cast<std::size_t>(number) % palette.size()];
}

// Draw boxes, labels and scores on the frame that the result is of; better ones over the others. OpenCV's font has
// ASCII.
inline void draw(cv::Mat& frame, const Result& result) {
  const double scale = std::max(0.4, std::min(frame.cols, frame.rows) / 900.0);
  const int line = 2 * std::max(1, cvRound(std::min(frame.cols, frame.rows) / 480.0));  // even: videos halve colours
  for (std::size_t row = result.detections.size(); row-- > 0;) {
    const Box& box = result.detections.xyxy[row];
    const int class_id = result.detections.class_id[row];
    const bool linked = row < result.detections.tracker_id.size();
    const std::int64_t number = linked ? result.detections.tracker_id[row] : class_id;
    const std::string text = (linked ? "#" + std::to_string(number) + " " : "") +
                             cv::format("%s %.2f", result.names[static_cast<std::size_t>(class_id)].c_str(),
                                        static_cast<double>(result.detections.confidence[row]));
    int below = 0;
    const cv::Size size = cv::getTextSize(text, cv::FONT_HERSHEY_SIMPLEX, scale, 1, &below);
    const int left = std::clamp(cvRound(box.x1), 0, std::max(0, frame.cols - size.width - 4));
    const int bottom = std::max(cvRound(box.y1), size.height + below + 4);
    cv::rectangle(frame, cv::Point2f(box.x1, box.y1), cv::Point2f(box.x2 - 1, box.y2 - 1), colour_of(number), line);
    cv::rectangle(frame, cv::Point(left, bottom - size.height - below - 4), cv::Point(left + size.width + 4, bottom),
                  colour_of(number), cv::FILLED);
    cv::putText(frame, text, cv::Point(left + 2, bottom - below - 1), cv::FONT_HERSHEY_SIMPLEX, scale,
                cv::Scalar(0, 0, 0), 1, cv::LINE_AA);
  }
}

}  // namespace yowo
