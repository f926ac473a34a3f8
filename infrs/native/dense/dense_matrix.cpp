#include "dense_matrix.h"

#include <algorithm>
#include <vector>

#include "../base/row_tiles.h"
#include "dense_inputs.h"
#include "dense_packing.h"

namespace infrs {

DenseMatrix::DenseMatrix(const void* weights, WeightType type, size_t outputs, size_t inputs,
                         const DenseKernel& kernel, const Parallel& parallel)
    : kernel_(kernel), outputs_(outputs), inputs_(inputs), pairs_((inputs + 1) / 2),
      groups_((outputs + kDenseColumns - 1) / kDenseColumns),
      group_bytes_(dense_group_bytes(type, inputs)) {
  data_ = allocate_weights(groups_ * group_bytes_);
  pack_dense(weights, type, outputs, inputs, parallel, data_.get());
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
