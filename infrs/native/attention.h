// Grouped-query attention over keys and values that stay where they are: [rows, kv_heads, capacity, head_dim].
// Keys are stored transposed in groups of eight positions, [capacity / 8, head_dim, 8] for a row and head, so that one
// vector holds a feature of eight keys.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention_loops.h"
#include "parallel.h"

namespace infrs {

constexpr size_t kMaxHeadDim = 512;

// What GroupQueryAttention's attributes say, and what computes it.
template <typename Stored>
struct AttentionShape {
  size_t num_heads, num_kv_heads, head_dim;
  float scale;
  float softcap;  // 0: none
  size_t window;  // tokens that a query sees, itself included; 0: all
  bool interleaved;  // rotate neighbours, not halves
  AttentionLoops<Stored> loops;
  AttentionLoops<float> wide_loops;  // for what is widened first, because many queries take it
};

// One run: S new tokens for each of B rows.
template <typename Stored>
struct AttentionRun {
  size_t rows, tokens, capacity;
  const float* query;  // [B, S, ...], as the two below: `stride` floats from a token to the next
  const float* key;
  const float* value;
  size_t query_stride, key_stride;
  Stored* keys;            // [B, kv_heads, capacity, head_dim], written at the new positions
  Stored* values;
  const int32_t* lengths;  // [B]: tokens in a row after this run, minus one
  const float* cos;        // [positions, rotary_width], null: no rotation
  const float* sin;
  size_t rotary_width;  // half of the rotated features
  float* output;        // [B, S, num_heads * head_dim]
};

// Stores the new keys and values, rotated, and attends to all that a token may see. A token's bits depend on its row
// alone: keys are taken in blocks at fixed positions, whatever the run's rows and tokens are. Stored: float or Half.
template <typename Stored>
void attend(const AttentionShape<Stored>& shape, const AttentionRun<Stored>& run, const Parallel& parallel);

}  // namespace infrs
