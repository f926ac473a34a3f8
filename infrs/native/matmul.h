// Products of float32 rows with 4-bit or 8-bit weights in blocks of 32 with one scale per block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "parallel.h"
#include "tiles.h"

namespace infrs {

// A weight matrix in the order in which the kernel reads it. It consists of groups of 16 columns, each group of the
// blocks along K, and each block of 16 scales and then the weights. The weights are interleaved: a vector holds the
// same inputs of eight or sixteen columns. Scales have 16 bits, relative to a unit of the matrix, which saves 5 to 10 %
// of the bytes.
class PackedMatrix {
 public:
  // The layout of MatMulNBits. values: [N, K / 32, 32 * bits / 8], unsigned with zero at 2**(bits - 1).
  // scales: [N, K / 32], float32 or float16.
  PackedMatrix(const uint8_t* values, const float* scales, size_t outputs, size_t inputs, int bits,
               const TileKernel& kernel);
  PackedMatrix(const uint8_t* values, const uint16_t* scales, size_t outputs, size_t inputs, int bits,
               const TileKernel& kernel);

  // Computes y [rows, N] = x [rows, K] @ weights.T + bias [N]; bias may be null. A row's bits do not depend on the
  // other rows. The kernel decides whether a row is rounded to 16-bit integers with one scale, or to 8-bit integers
  // with one scale per block.
  void multiply(const float* x, size_t rows, const float* bias, float* y, const Parallel& parallel) const;

 private:
  struct Free {
    void operator()(uint8_t* data) const;
  };
  size_t groups() const { return (outputs_ + kColumns - 1) / kColumns; }

  TileKernel kernel_;
  size_t outputs_, inputs_, blocks_;
  int bits_;
  float unit_;          // factor of all scales, a power of two
  size_t block_bytes_;  // scales and weights of one block of 16 columns
  std::unique_ptr<uint8_t[], Free> data_;
};

}  // namespace infrs
