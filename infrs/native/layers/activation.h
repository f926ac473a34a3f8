// The activation of a gated MLP: the first half of each row gates the second half.
#pragma once

#include <cstddef>

#include "../base/parallel.h"

namespace infrs {

// Computes y [rows, width] = silu(x[:, :width]) * x[:, width:] for x [rows, 2 * width]. silu(v) = v / (1 + e**-v).
void gate(const float* x, size_t rows, size_t width, float* y, const Parallel& parallel);

}  // namespace infrs
