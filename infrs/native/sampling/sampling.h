// Sums over a row of sampling weights.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infrs {

constexpr size_t kSumBlock = 256;

// Returns the sum of weight * log(weight), with logarithms within 1e-12, for weights [count] of 0 or more. Writes the
// sum of each block of 256 weights to sums [ceil(count / 256)].
double weigh_logarithms(const float* weights, size_t count, double* sums);

}  // namespace infrs
