// Packs weights of 32 or 16 bits in the layout of DenseMatrix.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../base/parallel.h"
#include "dense_tiles.h"

namespace infrs {

// The bytes of a group of 32 columns.
constexpr size_t dense_group_bytes(WeightType type, size_t inputs) {
  return (inputs + 1) / 2 * 2 * kDenseColumns * bytes_of(type);
}

// weights: [outputs, inputs] of the given type. target: one group per 32 columns, rounded up. Columns and inputs
// without weights become zero.
void pack_dense(const void* weights, WeightType type, size_t outputs, size_t inputs, const Parallel& parallel,
                uint8_t* target);

}  // namespace infrs
