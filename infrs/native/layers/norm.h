// RMS normalization of a sum: the residual connection and the norm that follows it, in one pass.
#pragma once

#include <cstddef>

#include "../base/parallel.h"

namespace infrs {

// Computes sum = x + skip and y = sum / sqrt(mean(sum**2) + epsilon) * gamma. gamma is [width], all other arrays are
// [rows, width]. `sum` may be null.
void add_and_normalise(const float* x, const float* skip, const float* gamma, float epsilon, size_t rows, size_t width,
                       float* y, float* sum, const Parallel& parallel);

}  // namespace infrs
