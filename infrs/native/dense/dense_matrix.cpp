#include "dense_matrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "../base/row_tiles.h"
#include "dense_inputs.h"

namespace infrs {
namespace {

constexpr size_t kPackPairs = 16;  // a cache line of 16-bit weights of each column

// Stores `pairs` pairs of inputs of up to 32 columns. Columns are `stride` weights apart. last: the last pair lacks its
// second weight, because the number of inputs is odd. side_by_side: the two weights of a column are neighbours.
template <typename Weight>
void pack_pairs(const Weight* source, size_t stride, size_t columns, size_t pairs, bool last, bool side_by_side,
                Weight* target) {
  // Reads whole lines of a column into a block first: columns that are a power of two apart share a few places of the
  // cache.
  Weight block[kDenseColumns][2 * kPackPairs] = {};
  for (size_t column = 0; column < columns; ++column)
    std::memcpy(block[column], source + column * stride, (2 * pairs - last) * sizeof(Weight));
  for (size_t pair = 0; pair < pairs; ++pair, target += 2 * kDenseColumns) {
    if (side_by_side) {
      for (size_t column = 0; column < kDenseColumns; ++column)
        std::memcpy(target + 2 * column, block[column] + 2 * pair, 2 * sizeof(Weight));
    } else {
      for (size_t odd = 0; odd < 2; ++odd)
        for (size_t column = 0; column < kDenseColumns; ++column)
          target[odd * kDenseColumns + column] = block[column][2 * pair + odd];
    }
  }
}

template <typename Weight>
void pack(const Weight* weights, size_t outputs, size_t inputs, bool side_by_side, Weight* target) {
  const size_t pairs = (inputs + 1) / 2;
  for (size_t first = 0; first < outputs; first += kDenseColumns) {
    const size_t columns = std::min(kDenseColumns, outputs - first);
    for (size_t pair = 0; pair < pairs; pair += kPackPairs) {
      const size_t count = std::min(kPackPairs, pairs - pair);
      const bool last = 2 * (pair + count) > inputs;
      pack_pairs(weights + first * inputs + 2 * pair, inputs, columns, count, last, side_by_side, target);
      target += 2 * kDenseColumns * count;
    }
  }
}

}  // namespace

DenseMatrix::DenseMatrix(const void* weights, WeightType type, size_t outputs, size_t inputs,
                         const DenseKernel& kernel)
    : kernel_(kernel), outputs_(outputs), inputs_(inputs), pairs_((inputs + 1) / 2),
      groups_((outputs + kDenseColumns - 1) / kDenseColumns),
      group_bytes_(2 * pairs_ * kDenseColumns * bytes_of(type)) {
  data_ = allocate_weights(groups_ * group_bytes_);
  if (type == WeightType::kFloat32) {
    pack(static_cast<const float*>(weights), outputs, inputs, false, reinterpret_cast<float*>(data_.get()));
  } else {
    pack(static_cast<const uint16_t*>(weights), outputs, inputs, type == WeightType::kBFloat16,
         reinterpret_cast<uint16_t*>(data_.get()));
  }
}

void DenseMatrix::multiply(const float* x, size_t rows, float* y, const Parallel& parallel) const {
  static thread_local std::vector<uint32_t> buffer;
  const size_t row_words = kernel_.rounds ? pairs_ : 2 * pairs_;
  buffer.resize(rows * row_words);
  uint32_t* const inputs = buffer.data();  // workers use the buffer of the calling thread, not their own
  const RowTiles tiles(rows, kernel_.max_rows, groups_);
  tiles.run(
      inputs_, inputs_ * kDenseColumns, parallel,
      [&](size_t row, size_t count) {
        const auto prepare = kernel_.rounds ? interleave_rounded : interleave;
        prepare(x + row * inputs_, count, inputs_, inputs + row * row_words);
      },
      [&](size_t row, size_t count, size_t group, bool ahead) {
        float out[kMaxDenseRows][kDenseColumns];
        kernel_.tiles[count - 1]({data_.get() + group * group_bytes_, ahead ? group_bytes_ : 0, pairs_,
                                  inputs + row * row_words},
                                 out);
        const size_t column = group * kDenseColumns, columns = std::min(kDenseColumns, outputs_ - column);
        for (size_t r = 0; r < count; ++r) std::copy_n(out[r], columns, y + (row + r) * outputs_ + column);
      });
}

}  // namespace infrs
