// Tiles, the inner loops of a product with weights of 32 or 16 bits: 32 outputs of a few rows.
//
// For AVX2 and AVX-512, an output is one chain of fused multiply-adds in float32, in the order of the inputs, so both
// compute the same bits. For AVX512-BF16, it is one chain of dot products of two inputs, which are rounded to bfloat16.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infrs {

constexpr size_t kDenseColumns = 32;   // outputs of a tile
constexpr size_t kMaxDenseRows = 12;   // their sums take 24 of the 32 registers of AVX-512

// The type of a matrix's weights.
enum class WeightType { kFloat32, kFloat16, kBFloat16 };

constexpr size_t bytes_of(WeightType type) { return type == WeightType::kFloat32 ? 4 : 2; }

// The inputs of a tile: a group of 32 columns in the layout of DenseMatrix, and interleaved rows.
struct DenseTileInput {
  const uint8_t* weights;
  size_t ahead;       // bytes from a weight to the one to prefetch; 0: none
  size_t pairs;       // of inputs
  const uint32_t* x;  // [2 * pairs, rows] float32, or [pairs, rows] pairs of bfloat16
};

// Computes the products y [rows, 32].
using DenseTile = void (*)(const DenseTileInput& input, float (*y)[kDenseColumns]);

struct DenseKernel {
  size_t max_rows;         // at most kMaxDenseRows
  const DenseTile* tiles;  // tiles[i] is for i + 1 rows
  bool rounds;             // the inputs are rounded to bfloat16
};

DenseKernel dense_tiles_avx512(WeightType type);
DenseKernel dense_tiles_avx2(WeightType type);  // AVX2, FMA and F16C
DenseKernel dense_tiles_bf16();                 // for bfloat16 and processors with AVX512-BF16

}  // namespace infrs
