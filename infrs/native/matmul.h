// Products of float32 rows with weights of 4 or 8 bits in blocks of 32, one scale a block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "parallel.h"
#include "tiles.h"

namespace infrs {

// A weight matrix in the order in which the kernel reads it: column groups of 16, in each the blocks along K, in each
// block 16 scales and then the weights, interleaved so that a vector holds the same inputs of eight columns, or of all
// sixteen. Scales have 16 bits, relative to a unit of the whole matrix: a twentieth to a tenth less to read.
class PackedMatrix {
 public:
  // values: [N, K / 32, 32 * bits / 8] unsigned with zero at 2**(bits - 1); scales: [N, K / 32], of 32 or 16 bits. As
  // MatMulNBits.
  PackedMatrix(const uint8_t* values, const float* scales, size_t outputs, size_t inputs, int bits,
               const TileKernel& kernel);
  PackedMatrix(const uint8_t* values, const uint16_t* scales, size_t outputs, size_t inputs, int bits,
               const TileKernel& kernel);

  // y [rows, N] = x [rows, K] @ weights.T + bias [N], null for none. A row's bits do not depend on the other rows.
  // As the kernel wants, the row is rounded to 16-bit integers, one scale a row, or to 8-bit ones, one scale a block.
  void multiply(const float* x, size_t rows, const float* bias, float* y, const Parallel& parallel) const;

 private:
  struct Free {
    void operator()(uint8_t* data) const;
  };
  size_t groups() const { return (outputs_ + kColumns - 1) / kColumns; }

  TileKernel kernel_;
  size_t outputs_, inputs_, blocks_;
  int bits_;
  float unit_;          // of the scales, a power of two
  size_t block_bytes_;  // of 16 columns: scales and weights
  std::unique_ptr<uint8_t[], Free> data_;
};

}  // namespace infrs
