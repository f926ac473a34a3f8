// Sums over a row of sampling weights.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infrs {

constexpr size_t kSumBlock = 256;
constexpr double kLogarithm = 1 << 24;  // logarithms above -128 fit 32 bits

// Returns the sum of weight * log(weight), with logarithms within 1e-12, for weights [count] of 0 or more. Writes the
// sum of each block of 256 weights to sums [ceil(count / 256)], and to logarithms [count rounded up to 4], unless it is
// null, kLogarithm times each logarithm.
double weigh_logarithms(const float* weights, size_t count, double* sums, int32_t* logarithms = nullptr);

}  // namespace infrs
