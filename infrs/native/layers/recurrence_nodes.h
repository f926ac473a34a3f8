// The operators of layers with a state of a fixed size.
#pragma once

#include <string>
#include <vector>

#include "../base/ort.h"
#include "recurrence.h"

namespace infrs {

// An operator of infrs's own domain, which the graph also defines as a function.
class ShortConvolutionNode {
 public:
  static constexpr const char* name = "ShortConvolution";
  static constexpr const char* attributes = "activation";
  // Input, weight, bias, past state, active rows.
  static constexpr int inputs[] = {kFloat, kFloat, -kFloat, kFloat, kFloat};
  static constexpr int outputs[] = {kFloat, kFloat};

  ShortConvolutionNode(const NodeInfo& node, Choice) {
    const std::string activation = node.text("activation", "none");
    require(activation == "none" || activation == "silu", "ShortConvolution: activation is neither none nor silu");
    silu_ = activation == "silu";
    const auto weight = node.constant<float>(1);
    require(weight.shape.size() == 3 && weight.shape[1] == 1 && weight.shape[0] > 0 && weight.shape[2] > 1,
            "ShortConvolution: a weight that is not [channels, 1, width], with a width of 2 or more");
    channels_ = weight.shape[0];
    width_ = weight.shape[2];
    weight_.resize(elements(weight.shape));
    for (size_t channel = 0; channel < channels_; ++channel)
      for (size_t tap = 0; tap < width_; ++tap)
        weight_[tap * channels_ + channel] = weight.data[channel * width_ + tap];
  }

  void compute(const Run& run) const {
    using Shape = std::vector<int64_t>;
    const auto x = run.input<float>(0), bias = run.input<float>(2), past = run.input<float>(3);
    const auto active = run.input<float>(4);
    const int64_t channels = channels_, width = width_;
    require(x.shape.size() == 3 && x.shape[2] == channels && (!bias.data || bias.shape == Shape{channels}) &&
                past.shape == Shape{x.shape[0], width - 1, channels} && elements(active.shape) == x.shape[0],
            "ShortConvolution: shapes that do not agree");
    ShortConvolutionRun args{};
    args.rows = x.shape[0];
    args.tokens = x.shape[1];
    args.channels = channels_;
    args.width = width_;
    args.silu = silu_;
    args.x = x.data;
    args.weight = weight_.data();
    args.bias = bias.data;
    args.active = active.data;
    args.state = run.in_place(1, past);
    args.output = run.output<float>(0, x.shape);
    if (args.rows && args.tokens) convolve(args, run.parallel());
  }

 private:
  bool silu_;
  size_t channels_, width_;
  std::vector<float> weight_;  // [width, channels]
};

// An operator of infrs's own domain. ONNX Runtime's rounds a number by its place in the tensor.
class SoftplusNode {
 public:
  static constexpr const char* name = "Softplus";
  static constexpr const char* attributes = "";
  static constexpr int inputs[] = {kFloat};
  static constexpr int outputs[] = {kFloat};

  SoftplusNode(const NodeInfo&, Choice) {}

  void compute(const Run& run) const {
    const auto x = run.input<float>(0);
    softplus(x.data, elements(x.shape), run.output<float>(0, x.shape));
  }
};

}  // namespace infrs
