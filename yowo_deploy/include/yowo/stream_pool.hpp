// Several videos through one engine, each in a thread of its own.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "yowo/backends/base.hpp"
#include "yowo/backends/loader.hpp"
#include "yowo/detector.hpp"
#include "yowo/errors.hpp"
#include "yowo/preprocess/frames.hpp"

namespace yowo {

// Streams that share one engine, each with its own frames, people and errors; each gives the results that a `Detector`
// alone gives. A stream that is slow, ends or fails holds no other.
//
//     yowo::StreamPool pool("yowo.onnx", [](const std::string& name, const yowo::Result& result) { ... });
//     pool.add("door", [&] { return next_frame_of_the_door(); });
//     for (const auto& [name, error] : pool.wait()) std::cerr << name << ": " << error << "\n";
class StreamPool {
 public:
  using Read = std::function<FrameView()>;
  using Use = std::function<void(const std::string& name, const Result& result)>;

  // `use` gets the results of each stream in order, one at a time of all of them. `options` as for `Detector::open`.
  // Throws what `open_model` throws.
  StreamPool(const std::string& path, Use use, const Options& options = {})
      : StreamPool(open_model(path, in_a_pool(options), options.every == 1 && !options.clips), std::move(use),
                   options) {}

  StreamPool(std::unique_ptr<Backend> backend, Use use, const Options& options = {})
      : backend_(std::move(backend)), use_(std::move(use)), options_(options) {}

  StreamPool(const StreamPool&) = delete;
  StreamPool& operator=(const StreamPool&) = delete;
  ~StreamPool() { stop(), wait(); }

  // A new stream. `read`, in the stream's thread, gives its next frame, which stays as it is until the next call; one
  // without pixels is the end. Throws InputError: the name is taken, an option, or the engine is for one thread alone.
  void add(const std::string& name, Read read) {
    if (threads_.count(name)) throw InputError("there is a stream '" + name + "' already: choose another name");
    auto detector = std::make_shared<Detector>(backend_->another(), options_);
    detector->reset(name);
    threads_.emplace(name, std::thread([this, name, read = std::move(read), detector] { run(name, read, *detector); }));
  }

  // Streams end after the frame that is at work.
  void stop() { over_ = true; }

  // Until all streams have ended; what ended those that did not end well, by name.
  std::map<std::string, std::string> wait() {
    for (auto& [name, thread] : threads_)
      if (thread.joinable()) thread.join();
    return errors_;
  }

 private:
  static Options in_a_pool(Options options) {
    const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    if (options.parallel < 1) options.parallel = static_cast<int>(std::min(4u, cores));
    return options;
  }

  void run(const std::string& name, const Read& read, Detector& detector) {
    const auto failed = [&](const char* text) {
      const std::lock_guard<std::mutex> turn(turn_);
      errors_[name] = text;
    };
    try {
      for (FrameView frame = read(); frame.data && !over_; frame = read()) {
        const Result& result = detector.push(frame);
        const std::lock_guard<std::mutex> turn(turn_);
        if (!over_) use_(name, result);
      }
    } catch (const std::exception& error) {
      failed(error.what());
    } catch (...) {
      failed("an error without a text");
    }
  }

  std::unique_ptr<Backend> backend_;
  Use use_;
  Options options_;
  std::atomic<bool> over_{false};
  std::mutex turn_;
  std::map<std::string, std::string> errors_;
  std::map<std::string, std::thread> threads_;
};

}  // namespace yowo
