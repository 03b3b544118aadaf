// The OpenVINO backend.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <openvino/runtime/core.hpp>
#include <openvino/runtime/properties.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "yowo/backends/base.hpp"
#include "yowo/backends/streaming.hpp"
#include "yowo/errors.hpp"
#include "yowo/model_files/onnx_reader.hpp"
#include "yowo/spec.hpp"

namespace yowo {

// An ONNX file on OpenVINO. Throws InputError: a device or precision that it has not; ModelFileError: it cannot load
// it.
class OpenVinoBackend final : public Backend {
 public:
  OpenVinoBackend(const std::string& path, const OnnxFile& file, const Options& options) : spec_(file.spec(path)) {
    if (!options.device.empty() && options.device != "cpu")
      throw InputError("openvino runs on the cpu here, not on '" + options.device + "'");
    if (file.signed_activations)
      throw InputError(path + " is INT8 for TensorRT, whose sums overflow in openvino on processors without VNNI: "
                              "export it with --int8 --target openvino, or give the backend onnxruntime");
    const std::string precision = chosen(path, options.precision);
    try {
      compile(path, file.model, precision, options);
    } catch (const ov::Exception& error) {
      throw ModelFileError("openvino cannot load " + path + ": " + detail::last_line(error.what()));
    }
  }

  const ModelSpec& spec() const override { return spec_; }

  const float* infer(const float* clip) override {
    if (spec_.streaming) throw InputError("a streaming file takes frames: call open_stream()");
    // OpenVINO reads the clip where it lies; its API has no tensor of constant values.
    return guarded([&] {
      request_.set_input_tensor(ov::Tensor(ov::element::f32, shape_, const_cast<float*>(clip)));
      request_.infer();
      return request_.get_output_tensor(0).data<const float>();
    });
  }

  std::unique_ptr<Backend> another() override {
    return guarded([&] { return std::unique_ptr<Backend>(new OpenVinoBackend(*this)); });
  }

  std::unique_ptr<FrameStream> open_stream() override {
    if (!spec_.streaming) return Backend::open_stream();
    return guarded([&] {
      return std::make_unique<KeptStream>(std::make_unique<FrameStep>(parts_, keeping_), keeping_, spec_);
    });
  }

 private:
  OpenVinoBackend(const OpenVinoBackend& other)
      : Backend(), spec_(other.spec_), parts_(other.parts_), keeping_(other.keeping_), shape_(other.shape_) {
    if (!spec_.streaming) request_ = parts_[1].create_infer_request();
  }

  // A map is a tensor of OpenVINO; a frame runs on one of two requests: for the maps alone, or for the answer as well.
  class FrameStep final : public Step {
   public:
    FrameStep(std::array<ov::CompiledModel, 2>& parts, const Keeping& keeping) {
      for (std::size_t whole = 0; whole < 2; ++whole) {
        Part& part = parts_[whole];
        part.request = parts[whole].create_infer_request();
        part.frames = parts[whole].input(Keeping::frames_name);
        if (whole) part.raw = parts[whole].output(Keeping::raw_name);
        for (const Keeping::Input& each : keeping.inputs) part.reads.push_back(parts[whole].input(each.name));
        for (const Keeping::Output& each : keeping.outputs) part.writes.push_back(parts[whole].output(each.name));
      }
    }

    std::size_t memory(std::size_t output) override {
      const ov::Output<const ov::Node>& port = parts_[1].writes[output];
      maps_.emplace_back(port.get_element_type(), port.get_shape());
      return maps_.size() - 1;
    }

    const float* run(const float* frames, const std::vector<std::size_t>& reads, const std::vector<std::size_t>& writes,
                     bool whole) override {
      Part& part = parts_[whole];
      return guarded([&] {
        const ov::Tensor newest(ov::element::f32, part.frames.get_shape(), const_cast<float*>(frames));
        part.request.set_tensor(part.frames, newest);
        for (std::size_t at = 0; at < reads.size(); ++at) part.request.set_tensor(part.reads[at], maps_[reads[at]]);
        for (std::size_t at = 0; at < writes.size(); ++at) part.request.set_tensor(part.writes[at], maps_[writes[at]]);
        part.request.infer();
        return whole ? part.request.get_tensor(part.raw).data<const float>() : nullptr;
      });
    }

   private:
    struct Part {
      ov::InferRequest request;
      ov::Output<const ov::Node> frames, raw;
      std::vector<ov::Output<const ov::Node>> reads, writes;
    };
    std::array<Part, 2> parts_;
    std::vector<ov::Tensor> maps_;
  };

  template <class Work>
  static std::invoke_result_t<Work> guarded(const Work& work) {
    try {
      return work();
    } catch (const ov::Exception& error) {
      throw YowoError("openvino failed: " + detail::last_line(error.what()));
    }
  }

  // Precision is always said: OpenVINO would pick bf16 by itself where the CPU has it.
  std::string chosen(const std::string& path, const std::string& asked) const {
    const std::string& own = spec_.precision;
    std::vector<std::string> allowed{own, "bf16"};
    if (own != "int8") allowed.push_back("fp32");
    if (!asked.empty() && std::find(allowed.begin(), allowed.end(), asked) == allowed.end())
      throw InputError("openvino runs " + path + " in one of " + detail::listed(allowed) + ", not in " + asked);
    return asked.empty() ? own : asked;
  }

  void compile(const std::string& path, const std::string& model, const std::string& precision,
               const Options& options) {
    ov::Core core;
    const auto can = core.get_property("CPU", ov::device::capabilities);
    if (precision == "bf16" && std::find(can.begin(), can.end(), ov::device::capability::BF16) == can.end())
      throw InputError("this CPU has no bf16, in which " + path + " was to run: ask for another precision");
    ov::AnyMap config{ov::hint::inference_precision(precision == "bf16" ? ov::element::bf16 : ov::element::f32)};
    if (options.parallel > 1)
      config.insert(ov::num_streams(options.parallel));
    else
      config.insert(ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY));
    if (options.threads > 0) config.insert(ov::inference_num_threads(options.threads));
    const std::shared_ptr<ov::Model> network = core.read_model(model, ov::Tensor());
    const detail::Named inputs = shapes(network->inputs()), outputs = shapes(network->outputs());
    if (spec_.streaming) {
      parts_[1] = core.compile_model(network, "CPU", config);
      keeping_ = Keeping::of(inputs, outputs, spec_, path);
      ov::OutputVector maps;
      for (const ov::Output<ov::Node>& each : network->outputs())
        if (!each.get_names().count(Keeping::raw_name)) maps.push_back(each.get_node()->input_value(0));
      parts_[0] = core.compile_model(std::make_shared<ov::Model>(maps, network->get_parameters()), "CPU", config);
      return;
    }
    detail::check_shapes(inputs, outputs, spec_, path);
    const auto side = [](int length) { return static_cast<std::size_t>(length); };
    shape_ = {1, 3, side(spec_.clip_length), side(spec_.input_size[1]), side(spec_.input_size[0])};
    network->reshape(ov::PartialShape(shape_));  // OpenVINO optimises less for an open number of clips
    parts_[1] = core.compile_model(network, "CPU", config);
    request_ = parts_[1].create_infer_request();
  }

  static detail::Named shapes(const ov::OutputVector& tensors) {
    detail::Named all;
    for (const auto& tensor : tensors) {
      detail::Shape shape;
      const ov::PartialShape known = tensor.get_partial_shape();
      if (known.rank().is_static())
        for (const ov::Dimension& side : known) shape.push_back(side.is_static() ? side.get_length() : -1);
      all.emplace_back(tensor.get_names().empty() ? "" : tensor.get_any_name(), std::move(shape));
    }
    return all;
  }

  ModelSpec spec_;
  std::array<ov::CompiledModel, 2> parts_;  // of a streaming file that which makes the maps alone; and all of it
  Keeping keeping_;
  ov::InferRequest request_;  // of clips
  ov::Shape shape_;
};

}  // namespace yowo
