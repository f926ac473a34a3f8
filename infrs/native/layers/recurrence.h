// Operators of layers with a state of a fixed size. A token's bits do not depend on the other rows, nor on how its
// sequence is split into runs.
#pragma once

#include <cstddef>

#include "../base/parallel.h"

namespace infrs {

// A convolution of each channel with its last `width` inputs, and an optional SiLU behind it.
struct ShortConvolutionRun {
  size_t rows, tokens, channels, width;
  bool silu;
  const float* x;       // [rows, tokens, channels]
  const float* weight;  // [width, channels]
  const float* bias;    // [channels], or null
  const float* active;  // [rows]: 0 for a row that keeps its state
  float* state;         // [rows, width - 1, channels]: the inputs before x, updated in place
  float* output;        // [rows, tokens, channels]
};

void convolve(const ShortConvolutionRun& run, const Parallel& parallel);

// Computes y = log(1 + e**x) for `count` numbers, within 4 ulp. Each is rounded alike, wherever it is.
void softplus(const float* x, size_t count, float* y);

}  // namespace infrs
