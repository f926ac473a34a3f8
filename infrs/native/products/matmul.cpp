#include "matmul.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "../base/row_tiles.h"
#include "../base/simd.h"

namespace infrs {
namespace {

float to_float(float value) { return value; }
float to_float(uint16_t half) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))); }

uint16_t to_half(float value) {
  return static_cast<uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(value), _MM_FROUND_TO_NEAREST_INT)));
}

// Returns the power of two that scales the largest value to just below 2**15, which fits a half.
template <typename Scale>
float unit_of(const Scale* scales, size_t count) {
  float largest = 0;
  for (size_t i = 0; i < count; ++i) {
    const float scale = to_float(scales[i]);
    if (!std::isfinite(scale)) throw std::invalid_argument("scales that are not finite");
    largest = std::max(largest, std::fabs(scale));
  }
  int exponent = 0;
  std::frexp(largest, &exponent);
  return std::ldexp(1.0f, std::max(exponent, -100) - 15);
}

// Spreads four numbers of four bits over the bytes of a word.
uint32_t to_bytes(uint32_t levels) {
  levels = (levels | levels << 8) & 0x00ff00ff;
  return (levels | levels << 4) & 0x0f0f0f0f;
}

// Stores the 32 weights of a column's block at its lane of the block of 16 columns.
void pack_block(const uint8_t* source, size_t lane, int bits, bool wide, uint8_t* target) {
  if (wide) {
    for (size_t k = 0; k < kBlock; ++k)
      target[k / 2 * 2 * kColumns + lane * 2 + k % 2] = static_cast<uint8_t>(source[k] - 128);
  } else if (bits == 8) {
    for (size_t k = 0; k < kBlock; k += 4) std::memcpy(target + k * kColumns + lane * 4, source + k, 4);
  } else {
    // The low four bits of the bytes of step s hold inputs 8s to 8s+3, the high four bits inputs 8s+4 to 8s+7.
    for (size_t k = 0; k < kBlock; k += 8) {
      uint16_t levels[2];
      std::memcpy(levels, source + k / 2, sizeof levels);
      const uint32_t word = to_bytes(levels[0]) | to_bytes(levels[1]) << 4;
      std::memcpy(target + k / 2 * kColumns + lane * 4, &word, sizeof word);
    }
  }
}

}  // namespace

template <typename Scale>
PackedMatrix::PackedMatrix(const uint8_t* values, const Scale* scales, size_t outputs, size_t inputs,
                           const WeightLevels& levels, const TileKernel& kernel)
    : kernel_(kernel), outputs_(outputs), inputs_(inputs), blocks_(inputs / kBlock), levels_(levels),
      unit_(unit_of(scales, outputs * blocks_)), block_bytes_(kScaleBytes + kColumns * kBlock * levels.bits() / 8) {
  const size_t size = groups() * group_bytes();
  data_ = allocate_weights(size);
  if (outputs % kColumns) std::memset(data_.get() + size - group_bytes(), 0, group_bytes());
  const int bits = levels.bits();
  const size_t value_bytes = kBlock * bits / 8;
  for (size_t column = 0; column < outputs; ++column) {
    const size_t lane = column % kColumns;
    for (size_t block = 0; block < blocks_; ++block) {
      uint8_t* target = data_.get() + (column / kColumns * blocks_ + block) * block_bytes_;
      const uint16_t half = to_half(to_float(scales[column * blocks_ + block]) / unit_);
      std::memcpy(target + lane * sizeof half, &half, sizeof half);
      pack_block(values + (column * blocks_ + block) * value_bytes, lane, bits, kernel.wide, target + kScaleBytes);
    }
  }
}

template PackedMatrix::PackedMatrix(const uint8_t*, const float*, size_t, size_t, const WeightLevels&,
                                    const TileKernel&);
template PackedMatrix::PackedMatrix(const uint8_t*, const uint16_t*, size_t, size_t, const WeightLevels&,
                                    const TileKernel&);

void PackedMatrix::multiply_tile(const RoundedTile& tile, size_t group, size_t ahead, float (*out)[kColumns]) const {
  const TileInput input{data_.get() + group * group_bytes(),
                        ahead,
                        blocks_,
                        reinterpret_cast<const uint8_t*>(tile.words),
                        tile.scales,
                        tile.starts,
                        levels_.above.data()};
  kernel_.tiles[tile.rows - 1](input, out);
}

void PackedMatrix::multiply(const float* x, size_t rows, const float* bias, float* y, const Parallel& parallel) const {
  static thread_local RoundedRows buffers;
  RoundedRows& rounded = buffers;  // workers use those of the calling thread, not their own
  rounded.resize(form(), rows);
  const RowTiles tiles(rows, kernel_.max_rows, groups());
  tiles.run(
      inputs_, inputs_ * kColumns, parallel,
      [&](size_t row, size_t count) { rounded.round(x + row * inputs_, row, count); },
      [&](size_t row, size_t count, size_t group, bool ahead) {
        float out[kMaxTileRows][kColumns];
        const RoundedTile input = rounded.tile(row, count);
        multiply_tile(input, group, ahead ? group_bytes() : 0, out);
        const size_t column = group * kColumns, end = std::min(kColumns, outputs_ - column);
        for (size_t r = 0; r < count; ++r) {
          const float scale = factor(input, r);
          float* target = y + (row + r) * outputs_ + column;
          for (size_t i = 0; i < end; ++i) target[i] = out[r][i] * scale + (bias ? bias[column + i] : 0.0f);
        }
      });
}

}  // namespace infrs
