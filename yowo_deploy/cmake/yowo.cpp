// The shared library behind yowo.h: C++ in, codes and texts out.
#include "yowo/yowo.h"

#include <array>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "yowo/yowo.hpp"

struct yowo_detector {
  yowo::Detector detector;
  std::vector<yowo_detection> found;
};

namespace {

thread_local std::array<char, 1024> last_error{};

int failed(int code, const char* text) noexcept {
  std::snprintf(last_error.data(), last_error.size(), "%s", text);
  return code;
}

// What a C function does, with every error as a code.
template <class Work>
int guarded(const Work& work) noexcept {
  try {
    work();
    return YOWO_OK;
  } catch (const yowo::InputError& error) {
    return failed(yowo::is_about_a_model(error) ? YOWO_MODEL_ERROR : YOWO_INPUT_ERROR, error.what());
  } catch (const yowo::YowoError& error) {
    return failed(YOWO_ENGINE_ERROR, error.what());
  } catch (const std::exception& error) {
    return failed(YOWO_BUG, error.what());
  } catch (...) {
    return failed(YOWO_BUG, "an error without a text");
  }
}

void require(const void* pointer, const char* name) {
  if (!pointer) throw yowo::InputError(std::string(name) + " is NULL, expected a pointer");
}

// Of options that a caller of an older version may know fewer of.
yowo::Options options_of(const yowo_options* given) {
  yowo_options known;
  yowo_default_options(&known);
  if (given) {
    if (given->size < sizeof(size_t) || given->size > sizeof known)
      throw yowo::InputError("options.size is " + std::to_string(given->size) + ", expected at most " +
                             std::to_string(sizeof known) + ": fill options with yowo_default_options first");
    std::memcpy(&known, given, given->size);
  }
  yowo::Options options;
  if (known.backend) options.backend = known.backend;
  if (known.device) options.device = known.device;
  if (known.precision) options.precision = known.precision;
  options.threads = known.threads, options.trust = known.trust != 0;
  options.confidence = known.confidence, options.iou = known.iou;
  options.keep = known.keep, options.tube_scores = known.tube_scores, options.cuts = known.cuts;
  options.every = known.every ? known.every : 1, options.clips = known.clips != 0;
  return options;
}

}  // namespace

int yowo_default_options(yowo_options* options) {
  return guarded([&] {
    require(options, "options");
    *options = yowo_options{sizeof(yowo_options), nullptr, nullptr, nullptr, 0, 0, -1, -1, -1, -1, -1, 1, 0};
  });
}

int yowo_open(const char* path, const yowo_options* options, yowo_detector** detector) {
  return guarded([&] {
    require(detector, "detector");
    *detector = nullptr;
    require(path, "path");
    *detector = new yowo_detector{yowo::Detector::open(path, options_of(options)), {}};
  });
}

int yowo_push(yowo_detector* detector, const uint8_t* bgr, int32_t width, int32_t height, int64_t stride) {
  return guarded([&] {
    require(detector, "detector");
    detector->found.clear();
    const yowo::Detections& seen =
        detector->detector.push({bgr, width, height, static_cast<std::ptrdiff_t>(stride)}).detections;
    for (std::size_t row = 0; row < seen.size(); ++row) {
      const yowo::Box& box = seen.xyxy[row];
      detector->found.push_back(
          {box.x1, box.y1, box.x2, box.y2, seen.confidence[row], seen.class_id[row], seen.tracker_id[row]});
    }
  });
}

int yowo_results(const yowo_detector* detector, const yowo_detection** found, size_t* count) {
  return guarded([&] {
    require(detector, "detector"), require(found, "found"), require(count, "count");
    *found = detector->found.data();
    *count = detector->found.size();
  });
}

int yowo_label(const yowo_detector* detector, int32_t class_id, const char** label) {
  return guarded([&] {
    require(detector, "detector"), require(label, "label");
    const std::vector<std::string>& labels = detector->detector.spec().labels;
    if (class_id < 0 || static_cast<std::size_t>(class_id) >= labels.size())
      throw yowo::InputError("class " + std::to_string(class_id) + " is none of the " + std::to_string(labels.size()) +
                             " of this model");
    *label = labels[static_cast<std::size_t>(class_id)].c_str();
  });
}

int yowo_reset(yowo_detector* detector) {
  return guarded([&] {
    require(detector, "detector");
    detector->detector.reset();
    detector->found.clear();
  });
}

void yowo_close(yowo_detector* detector) { delete detector; }

const char* yowo_last_error(void) { return last_error.data(); }

const char* yowo_version(void) { return YOWO_VERSION; }
