// Products of float32 rows with weights of 32 or 16 bits, in float32 arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../base/parallel.h"
#include "../base/weight_memory.h"
#include "dense_tiles.h"

namespace infrs {

// A weight matrix in the order in which the kernel reads it: groups of 32 columns, each with the pairs of inputs one
// after the other. A pair has the weights of its first input for all 32 columns, and then those of the second. With
// bfloat16, the two weights of a column are neighbours, as in the instructions for dot products.
class DenseMatrix {
 public:
  // weights: [N, K] of the given type. parallel: packs them.
  DenseMatrix(const void* weights, WeightType type, size_t outputs, size_t inputs, const DenseKernel& kernel,
              const Parallel& parallel);

  // Computes y [rows, N] = x [rows, K] @ weights.T. A row's bits do not depend on the other rows.
  void multiply(const float* x, size_t rows, float* y, const Parallel& parallel) const;

  size_t outputs() const { return outputs_; }
  size_t inputs() const { return inputs_; }

 private:
  DenseKernel kernel_;
  size_t outputs_, inputs_, pairs_, groups_, group_bytes_;
  WeightMemory data_;
};

}  // namespace infrs
