// Packs 4-bit and 8-bit weights with their scales in the layout of PackedMatrix.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../base/parallel.h"

namespace infrs {

// Weights as MatMulNBits stores them: values [outputs, inputs / 32, 32 * bits / 8], unsigned, and
// scales [outputs, inputs / 32], float for float32 or uint16_t for float16.
template <typename Scale>
struct BlockWeights {
  const uint8_t* values;
  const Scale* scales;
  size_t outputs, inputs;
};

// Returns the power of two that scales the largest scale to just below 2**15, which fits a half. Throws
// std::invalid_argument if a scale is not finite.
template <typename Scale>
float unit_of(const BlockWeights<Scale>& weights);

// bits: of a value, 4 or 8. unit: the divisor of the stored scales. wide: for products with 16-bit inputs. target: one
// group per 16 columns, rounded up. Columns without weights become zero.
template <typename Scale>
void pack_blocks(const BlockWeights<Scale>& weights, int bits, float unit, bool wide, const Parallel& parallel,
                 uint8_t* target);

}  // namespace infrs
