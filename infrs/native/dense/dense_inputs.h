// Rows of activations in the order in which a dense tile reads them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infrs {

// Stores the rows x [rows, inputs] interleaved: target [2 * pairs, rows] in float32. Odd inputs get a zero.
void interleave(const float* x, size_t rows, size_t inputs, uint32_t* target);

// The same rounded to bfloat16: target [pairs, rows], each with the first input of a pair in its low half.
void interleave_rounded(const float* x, size_t rows, size_t inputs, uint32_t* target);

}  // namespace infrs
