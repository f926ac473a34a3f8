// The inner loops of attention, for AVX2 and for AVX-512. Both give the same bits: a score adds the features in order,
// an output adds the keys in order, and each lane of a sum of weights adds every eighth weight. The loops prefetch the
// keys and values that follow, because the hardware prefetcher stops at the end of each page.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infrs {

// What a number of a key or a value is stored as: float, an IEEE half, or an integer of 8 bits with one scale per key
// and value. The loops read integers as they are; `attend` multiplies by the scales.
using Half = uint16_t;
using Byte = int8_t;

constexpr size_t kKeyLanes = 8;     // keys in a stored group
constexpr size_t kScoreGroups = 4;  // groups that are scored together
constexpr size_t kScoreKeys = kScoreGroups * kKeyLanes;
constexpr size_t kMaxTogether = 8;
constexpr size_t kAhead = 32;  // distance of the prefetched values; for keys it is kScoreKeys

// Computes the dot products of queries [head_dim] with four groups of keys [head_dim, 8]. scores[r]: [32].
template <typename Stored>
using Dots = void (*)(size_t head_dim, const float* const* queries, const Stored* const* groups, float* const* scores);

// Computes outputs[r] [head_dim] += weights[r] [count] @ values [count, head_dim].
template <typename Stored>
using AddValues = void (*)(size_t head_dim, const Stored* values, const float* const* weights, size_t count,
                           float* const* outputs);

// A softmax over some of the keys of a query. Its weights are relative to `max`, and `sum` is their sum.
struct Partial {
  float max, sum;
};

// Turns scores into weights, eight at a time. Scores from `count` to the next multiple of eight must be -infinity.
using Softmax = Partial (*)(float* scores, size_t count);

template <typename Stored>
struct AttentionLoops {
  size_t together;                      // maximum number of queries per call, kMaxTogether or less
  const Dots<Stored>* dots;             // dots[i] and add_values[i] are for i + 1 queries
  const AddValues<Stored>* add_values;
  Softmax softmax;
};

template <typename Stored>
AttentionLoops<Stored> attention_loops_avx2();
template <typename Stored>
AttentionLoops<Stored> attention_loops_avx512();  // for processors with AVX512F, BW and VL

}  // namespace infrs
