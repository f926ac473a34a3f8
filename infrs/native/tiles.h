// Tiles of a product, the loops where its time goes: sixteen outputs of a few rows, once for each kind of processor.
// Both give the same bits: a block's sum is an exact integer, and the totals add the blocks in order in float32.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infrs {

constexpr size_t kBlock = 32;    // weights that share a scale
constexpr size_t kColumns = 16;  // outputs computed side by side
constexpr size_t kScaleBytes = kColumns * sizeof(uint16_t);
constexpr size_t kMaxTileRows = 12;  // as many sums fit 32 registers, and none waits for its last addition

// What a tile reads: a column group's weights as PackedMatrix has them, and rows rounded to integers. The rows lie one
// among the other, by words of 32 bits (two 16-bit integers for 8-bit weights, four 8-bit ones for 4-bit weights), so
// that a single address leads through all of them.
struct TileInput {
  const uint8_t* weights;  // of each block 16 scales of 16 bits, then the weights
  size_t ahead;            // bytes from a weight to the one that is fetched for later; 0: none
  size_t blocks;
  const uint8_t* words;    // [words of a row, rows]
  const float* scales;     // of 8-bit rows; [blocks, rows]
  const int32_t* offsets;  // of 8-bit rows: a block's sum times the weights' zero; [blocks, rows]
};

// y [rows, 16] = the products. Rows of 16 bits and the weights' unit are left for the caller to scale by.
using Tile = void (*)(const TileInput& input, float (*y)[kColumns]);

struct TileKernel {
  size_t max_rows;    // kMaxTileRows or less
  const Tile* tiles;  // tiles[i] is for i + 1 rows
};

// bits: of the weights, 4 or 8.
TileKernel tiles_avx2(int64_t bits);
TileKernel tiles_avx512(int64_t bits);  // for processors with AVX512-VNNI

}  // namespace infrs
