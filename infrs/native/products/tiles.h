// Tiles, the inner loops of a product: sixteen outputs of a few rows, for AVX2, AVX-VNNI and AVX-512. All compute the
// same bits from the same integers: the sum of a block is exact, and float32 totals add the blocks in order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infrs {

constexpr size_t kBlock = 32;    // weights with one scale
constexpr size_t kColumns = 16;  // outputs of a tile
constexpr size_t kScaleBytes = kColumns * sizeof(uint16_t);
constexpr size_t kMaxTileRows = 12;  // their sums fit 32 registers and hide the latency of an addition

// The inputs of a tile: the weights of a column group in the layout of PackedMatrix, and rows rounded to integers. The
// rows are interleaved by 32-bit words (two 16-bit or four 8-bit integers), so one pointer walks through all of them.
struct TileInput {
  const uint8_t* weights;  // for each block 16 scales of 16 bits, then the weights
  size_t ahead;            // bytes from a weight to the one to prefetch; 0: none
  size_t blocks;
  const uint8_t* words;    // [words per row, rows]
  const float* scales;     // [blocks, rows], for 8-bit rows only
  const int32_t* starts;   // [blocks, rows], for 8-bit rows only: -(zero level of the weights) * (sum of the inputs)
  const uint8_t* levels;   // [16], the table of values plus the zero level; only for kLevels and kNarrowLevels
};

// Computes the products y [rows, 16]. The caller multiplies by the scales of 16-bit rows and the unit of the weights.
using Tile = void (*)(const TileInput& input, float (*y)[kColumns]);

struct TileKernel {
  size_t max_rows;    // at most kMaxTileRows
  const Tile* tiles;  // tiles[i] is for i + 1 rows
  bool wide;          // the inputs are rounded to 16 bits, not to 8
};

// How a stored weight encodes its value, before the scale:
// - kBytes: 8 bits, the value plus 128.
// - kNibbles: 4 bits, the value plus 8.
// - kLevels: 4 bits, an index into a table of 16 values from -128 to 127. Tiles read each value plus 128.
// - kNarrowLevels: the same, and the values span at most kNarrowSpan. Tiles read each value minus the smallest.
// The number that is added to a value is the zero level.
enum class Weights { kBytes, kNibbles, kLevels, kNarrowLevels };
constexpr int kNarrowSpan = 64;  // four products with inputs of 8 bits fit 16 bits (4 * 64 * 127 < 2**15)

// wide: use 16-bit inputs with bytes. Weights of four bits always use 8-bit inputs.
TileKernel tiles_avx512(Weights weights, bool wide);    // for processors with AVX512-VNNI
TileKernel tiles_vnni_256(Weights weights, bool wide);  // for processors with AVX-VNNI or AVX512-VNNI
bool has_avx_vnni();  // whether the processor has it, and the compiler knew it
// With AVX2, bytes always use 16-bit inputs: its product of full-range bytes saturates.
TileKernel tiles_avx2(Weights weights, bool wide);

}  // namespace infrs
