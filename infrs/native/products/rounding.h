// Rows of activations, rounded to the integers that a product multiplies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace infrs {

// How rows are rounded for a product. wide: to 16-bit integers with one scale per row. Otherwise to 8-bit integers with
// one scale per block of 32, and the initial value of the block's sums. zero: the weight level that represents 0.
struct RoundedForm {
  size_t inputs;
  bool wide;
  uint32_t zero;
};

// Neighbouring rows that a tile reads, in the layout of TileInput.
struct RoundedTile {
  size_t rows;
  const uint32_t* words;
  const float* scales;    // of a wide row: one each
  const int32_t* starts;  // null if wide
};

// Rows, tile by tile. The caller decides which neighbours form a tile, and reads them with the tile that it wrote.
// Several threads may write different tiles. Only `resize` allocates.
class RoundedRows {
 public:
  void resize(const RoundedForm& form, size_t rows);
  // Rounds x [count, inputs] into the tile of the rows [first, first + count).
  void round(const float* x, size_t first, size_t count);
  // Fills the tile of the rows [first, first + count) with rows of `other`, each of which is a tile of its own.
  void gather(const RoundedRows& other, const size_t* rows, size_t first, size_t count);
  RoundedTile tile(size_t first, size_t count) const;

 private:
  RoundedForm form_{};
  size_t row_words_ = 0, row_scales_ = 0;
  std::vector<uint32_t> words_;
  std::vector<float> scales_;
  std::vector<int32_t> starts_;
};

}  // namespace infrs
