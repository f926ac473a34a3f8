// The operators with packed weights: a product, and a mixture of experts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "experts.h"
#include "matmul.h"
#include "../base/ort.h"
#include "tiles.h"

namespace infrs {

inline TileKernel tiles_for(Choice choice, const WeightLevels& levels, bool wide) {
  const auto tiles = choice.avx512 ? tiles_avx512 : choice.vnni ? tiles_vnni_256 : tiles_avx2;
  return tiles(levels.weights, wide);
}

inline WeightLevels even_levels(int64_t bits) {
  return bits == 8 ? WeightLevels{Weights::kBytes, 128} : WeightLevels{Weights::kNibbles, 8};
}

// Reads the 16 levels of a node's weights, whole numbers from -128 to 127.
inline WeightLevels read_levels(const NodeInfo& node, size_t index) {
  const auto levels = node.constant<float>(index);
  WeightLevels read{Weights::kLevels, 128};
  constexpr size_t count = read.above.size();
  require(levels.shape == std::vector<int64_t>{int64_t{count}}, "not 16 levels of weights");
  for (size_t i = 0; i < count; ++i)
    require(-128 <= levels.data[i] && levels.data[i] <= 127 && levels.data[i] == std::floor(levels.data[i]),
            "a level of the weights is not a whole number from -128 to 127");
  const auto [smallest, largest] = std::minmax_element(levels.data, levels.data + count);
  if (*largest - *smallest <= kNarrowSpan) read = {Weights::kNarrowLevels, 0u - static_cast<int32_t>(*smallest)};
  for (size_t i = 0; i < count; ++i) read.above[i] = static_cast<int32_t>(levels.data[i]) + read.zero;
  return read;
}

constexpr int64_t kMaxInputs = 1 << 24, kMaxOutputs = 1 << 28;  // of a product, so products of sizes fit 64 bits

// Computes the output 0 of a node from its input 0, and from the bias at the input `bias`, which may be absent.
inline void multiply(const Run& run, const PackedMatrix& weights, int64_t outputs, size_t bias) {
  const auto x = run.input<float>(0), added = run.input<float>(bias);
  const int64_t inputs = weights.inputs();
  auto shape = x.shape;
  require(!shape.empty() && shape.back() == inputs, "a product: the input's last dimension is not K");
  shape.back() = outputs;
  require(!added.data || elements(added.shape) == outputs, "a product: a bias of another size than N");
  weights.multiply(x.data, elements(x.shape) / inputs, added.data, run.output<float>(0, shape), run.parallel());
}

// Scale: float, or uint16_t for float16 scales, which only the operator in infrs's own domain takes.
template <typename Scale>
class MatMulNBits {
 public:
  static constexpr const char* name = "MatMulNBits";
  static constexpr const char* attributes = "K N bits block_size accuracy_level weight_prepacked input_bits";
  // Input, weights, scales, zero points, order of the inputs, bias.
  static constexpr int kScale = std::is_same_v<Scale, float> ? kFloat : kFloat16;
  static constexpr int inputs[] = {kFloat, kUInt8, kScale, -kUInt8, -kInt32, -kFloat};
  static constexpr int outputs[] = {kFloat};

  MatMulNBits(const NodeInfo& node, Choice choice) : outputs_(node.integer("N", 0)), weights_(pack(node, choice)) {}

  // ONNX Runtime folds an Add that follows into the node, as its bias.
  void compute(const Run& run) const { multiply(run, weights_, outputs_, 5); }

 private:
  static PackedMatrix pack(const NodeInfo& node, Choice choice) {
    const int64_t bits = node.integer("bits", 4), k = node.integer("K", 0), n = node.integer("N", 0);
    require(0 < k && k <= kMaxInputs && 0 < n && n <= kMaxOutputs, "MatMulNBits: a K or N of impossible size");
    support(bits == 4 || bits == 8, "MatMulNBits: only 4 and 8 bits");
    support(node.integer("block_size", 0) == kBlock && k % kBlock == 0, "MatMulNBits: only whole blocks of 32");
    support(!node.integer("weight_prepacked", 0), "MatMulNBits: no prepacked weights");
    const int64_t level = node.integer("accuracy_level", 0);  // 0: the kernel chooses
    support(level == 0 || level == 4, "MatMulNBits: only activations that are rounded to integers (accuracy_level 4)");
    support(!node.has_input(3) && !node.has_input(4), "MatMulNBits: no zero points and no order of the inputs");
    const auto values = node.constant<uint8_t>(1);
    const auto scales = node.constant<Scale>(2);
    require(elements(values.shape) == n * k * bits / 8 && elements(scales.shape) == n * k / int64_t{kBlock},
            "MatMulNBits: weights or scales of another size than N and K say");
    const WeightLevels levels = even_levels(bits);
    const TileKernel tiles = tiles_for(choice, levels, choice.wide || input_bits(node) == 16);
    return PackedMatrix(values.data, scales.data, n, k, levels, tiles);
  }

  // Bits to which activations are rounded before they meet 8-bit weights. The output layer has 16, because its
  // rounding goes straight into the logits. A node without the attribute is in ONNX Runtime's domain, where the
  // attribute is not allowed, or in an older bundle. There the name that export gives the output layer decides.
  static int64_t input_bits(const NodeInfo& node) {
    const int64_t bits = node.integer("input_bits", node.name().rfind("lm_head", 0) == 0 ? 16 : 8);
    require(bits == 8 || bits == 16, "MatMulNBits: input_bits is neither 8 nor 16");
    return bits;
  }

  int64_t outputs_;
  PackedMatrix weights_;
};

// A product with weights of 4 bits that stand for 16 levels, in blocks of 32. An operator of infrs's own domain, which
// the graph also defines as a function of ONNX Runtime's operators.
class MatMulLevels {
 public:
  static constexpr const char* name = "MatMulLevels";
  static constexpr const char* attributes = "K N";
  // Input, weights, scales, levels, bias.
  static constexpr int inputs[] = {kFloat, kUInt8, kFloat16, kFloat, -kFloat};
  static constexpr int outputs[] = {kFloat};

  MatMulLevels(const NodeInfo& node, Choice choice) : outputs_(node.integer("N", 0)), weights_(pack(node, choice)) {}

  void compute(const Run& run) const { multiply(run, weights_, outputs_, 4); }

 private:
  static PackedMatrix pack(const NodeInfo& node, Choice choice) {
    const int64_t k = node.integer("K", 0), n = node.integer("N", 0), block = kBlock;
    require(0 < k && k <= kMaxInputs && k % block == 0 && 0 < n && n <= kMaxOutputs,
            "MatMulLevels: a K or N of impossible size");
    using Shape = std::vector<int64_t>;
    const auto values = node.constant<uint8_t>(1);
    const auto scales = node.constant<uint16_t>(2);
    require(values.shape == Shape{n, k / block, block / 2} && scales.shape == Shape{n, k / block},
            "MatMulLevels: weights or scales of another shape than N and K say");
    const WeightLevels levels = read_levels(node, 3);
    return PackedMatrix(values.data, scales.data, n, k, levels, tiles_for(choice, levels, false));
  }

  int64_t outputs_;
  PackedMatrix weights_;
};

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
    return PackedMatrix(values.data, scales.data, product(shape[0], shape[1]), shape[2], levels, tiles);
  }

  static constexpr int64_t kMaxExperts = 1 << 16, kMaxWidth = 1 << 24;  // so products of sizes fit 64 bits

  int64_t chosen_;  // of each row; 0: what the weights of a run say
  Experts experts_;
};

}  // namespace infrs
