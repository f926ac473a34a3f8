// A mixture of experts: each row goes through the gated MLPs of the experts that its indices name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "../base/parallel.h"
#include "../products/matmul.h"

namespace infrs {

// gate * sigmoid(alpha * (gate + cubic * gate**3)) * (up + beta). It is ONNX Runtime's SwiGLU without a cubic term, and
// the GELU with a tanh for alpha = 2 sqrt(2 / pi) and cubic = 0.044715, because 1 + tanh(v) = 2 sigmoid(2v).
// limit: the largest gate and the largest magnitude of up; 0: none.
struct Gate {
  float alpha, beta, limit, cubic;
};

// One run: the inputs of some rows, and `chosen` experts of each row.
struct ExpertsRun {
  size_t rows, chosen;
  const float* x;              // [rows, width]
  const float* weights;        // [rows, chosen]
  const int64_t* indices;      // [rows, chosen]: experts, below their count
  const float* gate_up_bias;   // [experts, 2 * inner], or null
  const float* down_bias;      // [experts, width], or null
  float* output;               // [rows, width]
};

class Experts {
 public:
  // gate_up: the matrices of all experts, one below the other, [experts * 2 * inner, width]. Their outputs alternate:
  // gate 0, up 0, gate 1, up 1. down: the same of [experts * width, inner]. width and inner are multiples of 32.
  Experts(size_t experts, PackedMatrix gate_up, PackedMatrix down, Gate activation)
      : experts_(experts), gate_up_(std::move(gate_up)), down_(std::move(down)), activation_(activation) {}

  size_t count() const { return experts_; }
  size_t width() const { return gate_up_.inputs(); }
  size_t inner() const { return down_.inputs(); }

  // Computes for each row sum(weights[j] * mlp(x, indices[j])), in the order of j. A row's bits do not depend on the
  // other rows.
  void compute(const ExpertsRun& run, const Parallel& parallel) const;

 private:
  size_t experts_;
  PackedMatrix gate_up_, down_;
  Gate activation_;
};

}  // namespace infrs
