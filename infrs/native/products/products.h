// The operators of products with packed weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "../base/ort.h"
#include "../base/pack_threads.h"
#include "matmul.h"
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
    const BlockWeights<Scale> weights{values.data, scales.data, static_cast<size_t>(n), static_cast<size_t>(k)};
    return PackedMatrix(weights, levels, tiles, pack_threads(choice.threads));
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
    const BlockWeights<uint16_t> weights{values.data, scales.data, static_cast<size_t>(n), static_cast<size_t>(k)};
    return PackedMatrix(weights, levels, tiles_for(choice, levels, false), pack_threads(choice.threads));
  }

  int64_t outputs_;
  PackedMatrix weights_;
};

}  // namespace infrs
