// The operator of a mixture of experts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../base/ort.h"
#include "../base/pack_threads.h"
#include "../products/products.h"
#include "experts.h"

namespace infrs {

// An operator of infrs's own domain. The graph also defines it as a function of ONNX Runtime's operators.
class ExpertsNode {
 public:
  static constexpr const char* name = "Experts";
  static constexpr const char* attributes = "bits block_size k alpha beta limit cubic";
  // Input, weights of the routes, their experts, gate_up and its scales, down and its scales, bias of gate_up and down,
  // levels of weights of 4 bits.
  static constexpr int inputs[] = {kFloat, kFloat,   kInt64,  kUInt8,  kFloat16,
                                   kUInt8, kFloat16, -kFloat, -kFloat, -kFloat};
  static constexpr size_t kLevelsInput = 9;
  static constexpr int outputs[] = {kFloat};

  ExpertsNode(const NodeInfo& node, Choice choice) : chosen_(node.integer("k", 0)), experts_(make(node, choice)) {
    require(0 <= chosen_ && chosen_ <= static_cast<int64_t>(experts_.count()), "Experts: k is impossible");
  }

  void compute(const Run& run) const {
    const auto x = run.input<float>(0), weights = run.input<float>(1);
    const auto indices = run.input<int64_t>(2);
    const auto gate_up_bias = run.input<float>(7), down_bias = run.input<float>(8);
    const int64_t width = experts_.width(), inner = experts_.inner(), experts = experts_.count();
    require(!x.shape.empty() && x.shape.back() == width, "Experts: the input's last dimension is not that of gate_up");
    const int64_t rows = elements(x.shape) / width;
    require(weights.shape.size() == 2 && weights.shape == indices.shape && weights.shape[0] == rows &&
                0 < weights.shape[1] && weights.shape[1] <= experts,
            "Experts: weights and indices do not give each row one expert or more, up to their number");
    require(!chosen_ || weights.shape[1] == chosen_, "Experts: weights and indices do not give each row k experts");
    const auto is_bias = [&](const Tensor<const float>& bias, int64_t columns) {
      return !bias.data || bias.shape == std::vector<int64_t>{experts, columns};
    };
    require(is_bias(gate_up_bias, 2 * inner) && is_bias(down_bias, width), "Experts: a bias of another shape");
    require(std::all_of(indices.data, indices.data + elements(indices.shape),
                        [&](int64_t index) { return 0 <= index && index < experts; }),
            "Experts: an index is negative, or not below the number of experts");
    ExpertsRun args{};
    args.rows = rows;
    args.chosen = weights.shape[1];
    args.x = x.data;
    args.weights = weights.data;
    args.indices = indices.data;
    args.gate_up_bias = gate_up_bias.data;
    args.down_bias = down_bias.data;
    args.output = run.output<float>(0, x.shape);
    experts_.compute(args, run.parallel());
  }

 private:
  static Experts make(const NodeInfo& node, Choice choice) {
    const int64_t bits = node.integer("bits", 4);
    support(bits == 4 || bits == 8, "Experts: only 4 and 8 bits");
    require(bits == 4 || !node.has_input(kLevelsInput), "Experts: levels of weights that have not 4 bits");
    support(node.integer("block_size", kBlock) == kBlock, "Experts: only blocks of 32");
    Gate activation{node.number("alpha", 1.0f), node.number("beta", 0.0f), node.number("limit", 0.0f),
                    node.number("cubic", 0.0f)};
    require(std::isfinite(activation.alpha) && std::isfinite(activation.beta) && std::isfinite(activation.limit) &&
                activation.limit >= 0 && std::isfinite(activation.cubic),
            "Experts: alpha, beta, limit or cubic is impossible");
    // The largest float would only clip infinities, which the engine must see.
    if (activation.limit == std::numeric_limits<float>::max()) activation.limit = 0;
    const auto gate_up = node.constant<uint8_t>(3), down = node.constant<uint8_t>(5);
    require(gate_up.shape.size() == 4 && down.shape.size() == 4 && gate_up.shape[1] % 2 == 0,
            "Experts: gate_up or down is not a matrix of blocks for each expert");
    const int64_t experts = gate_up.shape[0], inner = gate_up.shape[1] / 2, width = down.shape[1];
    require(0 < experts && experts <= kMaxExperts && 0 < inner && inner <= kMaxWidth && 0 < width && width <= kMaxWidth,
            "Experts: a number of experts, or a size of gate_up or down, is impossible");
    support(width % kBlock == 0 && inner % kBlock == 0, "Experts: only whole blocks of 32");
    const WeightLevels levels = node.has_input(kLevelsInput) ? read_levels(node, kLevelsInput) : even_levels(bits);
    return {static_cast<size_t>(experts), pack(node, choice, 3, {experts, 2 * inner, width}, levels),
            pack(node, choice, 5, {experts, width, inner}, levels), activation};
  }

  // Packs the matrices [experts, outputs, inputs] of all experts as one. The input after `index` has the scales.
  static PackedMatrix pack(const NodeInfo& node, Choice choice, size_t index, const int64_t (&shape)[3],
                           const WeightLevels& levels) {
    using Shape = std::vector<int64_t>;
    const auto values = node.constant<uint8_t>(index);
    const auto scales = node.constant<uint16_t>(index + 1);
    const int64_t blocks = shape[2] / int64_t{kBlock};
    require(values.shape == Shape{shape[0], shape[1], blocks, int64_t{kBlock} * levels.bits() / 8} &&
                scales.shape == Shape{shape[0], shape[1], blocks},
            "Experts: weights or scales of gate_up and down that do not agree");
    const TileKernel tiles = tiles_for(choice, levels, choice.wide);
    const auto outputs = static_cast<size_t>(product(shape[0], shape[1])), inputs = static_cast<size_t>(shape[2]);
    const BlockWeights<uint16_t> weights{values.data, scales.data, outputs, inputs};
    return PackedMatrix(weights, levels, tiles, pack_threads(choice.threads));
  }

  static constexpr int64_t kMaxExperts = 1 << 16, kMaxWidth = 1 << 24;  // so products of sizes fit 64 bits

  int64_t chosen_;  // of each row; 0: what the weights of a run say
  Experts experts_;
};

}  // namespace infrs
