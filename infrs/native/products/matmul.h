// Products of float32 rows with 4-bit or 8-bit weights in blocks of 32 with one scale per block.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../base/parallel.h"
#include "../base/weight_memory.h"
#include "packing.h"
#include "rounding.h"
#include "tiles.h"

namespace infrs {

// What the numbers of a weight matrix stand for. zero: the zero level. above: the 16 levels plus `zero`.
struct WeightLevels {
  Weights weights;
  uint32_t zero;
  std::array<uint8_t, 16> above{};

  int bits() const { return weights == Weights::kBytes ? 8 : 4; }
};

// A weight matrix in the order in which the kernel reads it. It consists of groups of 16 columns, each group of the
// blocks along K, and each block of 16 scales and then the weights. The weights are interleaved: a vector holds the
// same inputs of eight or sixteen columns. Scales have 16 bits, relative to a unit of the matrix, which saves 5 to 10 %
// of the bytes.
class PackedMatrix {
 public:
  // parallel: packs the weights. Throws std::invalid_argument if a scale is not finite.
  template <typename Scale>
  PackedMatrix(const BlockWeights<Scale>& weights, const WeightLevels& levels, const TileKernel& kernel,
               const Parallel& parallel);

  // Computes y [rows, N] = x [rows, K] @ weights.T + bias [N]; bias may be null. A row's bits do not depend on the
  // other rows. The kernel decides whether a row is rounded to 16-bit integers with one scale, or to 8-bit integers
  // with one scale per block.
  void multiply(const float* x, size_t rows, const float* bias, float* y, const Parallel& parallel) const;

  // The parts of `multiply`, for kernels that arrange their rows themselves.
  size_t groups() const { return (outputs_ + kColumns - 1) / kColumns; }
  size_t group_bytes() const { return blocks_ * block_bytes_; }
  size_t inputs() const { return inputs_; }
  size_t max_tile_rows() const { return kernel_.max_rows; }
  RoundedForm form() const { return {inputs_, kernel_.wide, levels_.zero}; }
  // Computes the products of a tile with a group of columns, out [rows, 16]; those of row r still lack the `factor` of
  // r. ahead: also prefetches the weights at this distance in bytes; 0: none.
  void multiply_tile(const RoundedTile& tile, size_t group, size_t ahead, float (*out)[kColumns]) const;
  float factor(const RoundedTile& tile, size_t r) const { return kernel_.wide ? tile.scales[r] * unit_ : unit_; }

 private:
  TileKernel kernel_;
  size_t outputs_, inputs_, blocks_;
  WeightLevels levels_;
  float unit_;          // factor of all scales, a power of two
  size_t block_bytes_;  // scales and weights of one block of 16 columns
  WeightMemory data_;
};

}  // namespace infrs
