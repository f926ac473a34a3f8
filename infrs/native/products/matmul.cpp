#include "matmul.h"

#include <algorithm>

#include "../base/row_tiles.h"

namespace infrs {

template <typename Scale>
PackedMatrix::PackedMatrix(const BlockWeights<Scale>& weights, const WeightLevels& levels, const TileKernel& kernel,
                           const Parallel& parallel)
    : kernel_(kernel), outputs_(weights.outputs), inputs_(weights.inputs), blocks_(weights.inputs / kBlock),
      levels_(levels), unit_(unit_of(weights)), block_bytes_(kScaleBytes + kColumns * kBlock * levels.bits() / 8),
      data_(allocate_weights(groups() * group_bytes())) {
  pack_blocks(weights, levels.bits(), unit_, kernel.wide, parallel, data_.get());
}

template PackedMatrix::PackedMatrix(const BlockWeights<float>&, const WeightLevels&, const TileKernel&,
                                    const Parallel&);
template PackedMatrix::PackedMatrix(const BlockWeights<uint16_t>&, const WeightLevels&, const TileKernel&,
                                    const Parallel&);

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
