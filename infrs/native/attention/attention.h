// Grouped-query attention over keys and values in place: a block [capacity, head_dim] for each row and head. Keys are
// stored transposed in groups of eight positions, [capacity / 8, head_dim, 8], so one vector holds one feature of eight
// keys. A block of Byte ends with a float32 scale for each position: the largest magnitude of the key or value, by 127.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "attention_loops.h"
#include "../base/parallel.h"

namespace infrs {

constexpr size_t kMaxHeadDim = 512;

template <typename Stored>
constexpr bool kHasScales = std::is_same_v<Stored, Byte>;

// The bytes of one key or value.
template <typename Stored>
constexpr size_t position_bytes(size_t head_dim) {
  return head_dim * sizeof(Stored) + (kHasScales<Stored> ? sizeof(float) : 0);
}

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
  size_t rows, tokens, slots, capacity;  // a block has room for `slots` positions of float
  const float* query;  // [B, S, ...] like key and value; a stride is the number of floats from one token to the next
  const float* key;
  const float* value;
  size_t query_stride, key_stride;
  Stored* keys;            // [B, kv_heads] blocks, written at the new positions
  Stored* values;
  const int32_t* lengths;  // [B]: tokens in a row after this run, minus one
  const float* cos;        // [positions, rotary_width]; null: no rotation
  const float* sin;
  size_t rotary_width;  // half of the rotated features
  const float* sinks;   // [num_heads]: a score without a value that joins the softmax of each query; null: none
  float* output;        // [B, S, num_heads * head_dim]
};

// Rotates the new keys and stores them with the new values, then computes the attention of each new token. A token's
// bits depend on its row alone, because keys are read in partitions at fixed positions. Stored: float, Half or Byte.
template <typename Stored>
void attend(const AttentionShape<Stored>& shape, const AttentionRun<Stored>& run, const Parallel& parallel);

}  // namespace infrs
