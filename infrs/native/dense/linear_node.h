// The operator of products with weights that are not quantized.
#pragma once

#include <cstdint>

#include "../base/ort.h"
#include "../base/pack_threads.h"
#include "dense_matrix.h"

namespace infrs {

// y = x @ weights.T in float32, with weights [N, K] of 32 or 16 bits. An operator of infrs's own domain; the graph also
// defines it as a function of ONNX Runtime's operators. input_bits: with 16, inputs may be rounded to the type of the
// weights; with 32, the default, they may not.
class LinearNode {
 public:
  static constexpr const char* name = "Linear";
  static constexpr const char* attributes = "input_bits";
  static constexpr int inputs[] = {kFloat, kAnyType};
  static constexpr int outputs[] = {kFloat};

  LinearNode(const NodeInfo& node, Choice choice) : weights_(pack(node, choice)) {}

  void compute(const Run& run) const {
    const auto x = run.input<float>(0);
    auto shape = x.shape;
    const int64_t inputs = weights_.inputs();
    require(!shape.empty() && shape.back() == inputs, "Linear: the input's last dimension is not that of the weights");
    shape.back() = weights_.outputs();
    weights_.multiply(x.data, elements(x.shape) / inputs, run.output<float>(0, shape), run.parallel());
  }

 private:
  static DenseMatrix pack(const NodeInfo& node, Choice choice) {
    const auto weights = node.constant<void>(1);
    require(weights.shape.size() == 2, "Linear: weights that are not a matrix");
    const int64_t n = weights.shape[0], k = weights.shape[1];
    require(0 < n && n <= kMaxOutputs && 0 < k && k <= kMaxInputs, "Linear: weights of impossible size");
    const WeightType type = type_of(node.constant_type(1));
    const int64_t bits = node.integer("input_bits", 32);
    require(bits == 16 || bits == 32, "Linear: input_bits is neither 16 nor 32");
    const bool rounds = choice.bf16 && bits == 16 && type == WeightType::kBFloat16;
    const DenseKernel kernel = rounds ? dense_tiles_bf16()
                                      : choice.avx512 ? dense_tiles_avx512(type) : dense_tiles_avx2(type);
    return DenseMatrix(weights.data, type, n, k, kernel, pack_threads(choice.threads));
  }

  static WeightType type_of(int type) {
    switch (type) {
      case kFloat: return WeightType::kFloat32;
      case kFloat16: return WeightType::kFloat16;
      case kBFloat16: return WeightType::kBFloat16;
      default: throw std::invalid_argument("Linear: weights that are not float32, float16 or bfloat16");
    }
  }

  static constexpr int64_t kMaxInputs = 1 << 24, kMaxOutputs = 1 << 28;  // so products of sizes fit 64 bits

  DenseMatrix weights_;
};

}  // namespace infrs
