// Grouped-query attention over keys and values in place: [rows, kv_heads, capacity, head_dim]. Keys are stored
// transposed in groups of eight positions, [capacity / 8, head_dim, 8] for each row and head, so one vector holds one
// feature of eight keys.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention_loops.h"
#include "../base/parallel.h"

namespace infrs {

constexpr size_t kMaxHeadDim = 512;

// The attributes of GroupQueryAttention, and the loops that compute it.
template <typename Stored>
struct AttentionShape {
  size_t num_heads, num_kv_heads, head_dim;
  float scale;
  float softcap;  // 0: none
  size_t window;  // tokens that a query attends to, including its own; 0: all
  bool interleaved;  // rotate pairs of neighbours, not of halves
  AttentionLoops<Stored> loops;
  AttentionLoops<float> wide_loops;  // for keys and values that are widened first, because many queries read them
};

// One run: S new tokens for each of B rows.
template <typename Stored>
struct AttentionRun {
  size_t rows, tokens, capacity;
  const float* query;  // [B, S, ...] like key and value; a stride is the number of floats from one token to the next
  const float* key;
  const float* value;
  size_t query_stride, key_stride;
  Stored* keys;            // [B, kv_heads, capacity, head_dim], written at the new positions
  Stored* values;
  const int32_t* lengths;  // [B]: tokens in a row after this run, minus one
  const float* cos;        // [positions, rotary_width]; null: no rotation
  const float* sin;
  size_t rotary_width;  // half of the rotated features
  const float* sinks;   // [num_heads]: a score without a value that joins the softmax of each query; null: none
  float* output;        // [B, S, num_heads * head_dim]
};

// Rotates the new keys and stores them with the new values, then computes the attention of each new token. A token's
// bits depend on its row alone, because keys are read in blocks at fixed positions. Stored: float or Half.
template <typename Stored>
void attend(const AttentionShape<Stored>& shape, const AttentionRun<Stored>& run, const Parallel& parallel);

}  // namespace infrs
