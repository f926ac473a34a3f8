// Tiles of a product, the loops where its time goes: sixteen outputs of a few rows, once for each kind of processor.
// Of the same integers both make the same bits: a block's sum is exact, and the totals add the blocks in order in
// float32.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infrs {

constexpr size_t kBlock = 32;    // weights that share a scale
constexpr size_t kColumns = 16;  // outputs computed side by side
constexpr size_t kScaleBytes = kColumns * sizeof(uint16_t);
constexpr size_t kMaxTileRows = 12;  // as many sums fit 32 registers, and none waits for its last addition

// What a tile reads: a column group's weights as PackedMatrix has them, and rows rounded to integers. The rows lie one
// among the other, by words of 32 bits (two integers of 16 bits or four of 8), so that a single address leads through
// all of them.
struct TileInput {
  const uint8_t* weights;  // of each block 16 scales of 16 bits, then the weights
  size_t ahead;            // bytes from a weight to the one that is fetched for later; 0: none
  size_t blocks;
  const uint8_t* words;    // [words of a row, rows]
  const float* scales;     // of 8-bit rows; [blocks, rows]
  const int32_t* starts;   // of 8-bit rows: a block's sum times the weights' zero, negative; [blocks, rows]
};

// y [rows, 16] = the products. The scales of 16-bit rows and the weights' unit are left for the caller.
using Tile = void (*)(const TileInput& input, float (*y)[kColumns]);

struct TileKernel {
  size_t max_rows;    // kMaxTileRows or less
  const Tile* tiles;  // tiles[i] is for i + 1 rows
  bool wide;          // the inputs are rounded to 16 bits, not to 8
};

// bits: of the weights, 4 or 8. wide: whether 8-bit weights meet 16-bit inputs; 4-bit weights never do.
TileKernel tiles_avx512(int64_t bits, bool wide);  // for processors with AVX512-VNNI
// On AVX2 8-bit weights always do: bytes of full range have no product that does not saturate.
TileKernel tiles_avx2(int64_t bits, bool wide);

}  // namespace infrs
