// The loops where attention's time goes, once for each kind of processor. Both give the same bits: a score adds the
// features in order, an output the keys, each in a lane of its own, and a sum of weights every eighth of them. While
// they compute with some keys or values they fetch those behind: a processor itself stops at the end of each page.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infrs {

// How keys and values are stored: in 32 bits, or in IEEE's 16, to which they are rounded as they come in.
using Half = uint16_t;

constexpr size_t kKeyLanes = 8;     // keys that are stored side by side
constexpr size_t kScoreGroups = 4;  // groups of so many keys that are scored at once
constexpr size_t kScoreKeys = kScoreGroups * kKeyLanes;
constexpr size_t kMaxTogether = 8;
constexpr size_t kAhead = 32;  // values that are fetched ahead; of keys as many as are scored at once

// Dot products of some queries, [head_dim] each, with four groups of keys, [head_dim, 8] each. scores[r]: [32].
template <typename Stored>
using Dots = void (*)(size_t head_dim, const float* const* queries, const Stored* const* groups, float* const* scores);

// outputs[r] [head_dim] += weights[r] [count] @ values [count, head_dim].
template <typename Stored>
using AddValues = void (*)(size_t head_dim, const Stored* values, const float* const* weights, size_t count,
                           float* const* outputs);

// A softmax over some of a query's keys: its weights are relative to `max` and come to `sum`.
struct Partial {
  float max, sum;
};

// Turns scores into weights, eight at a time: what lies between `count` and the next multiple of eight is -infinity.
using Softmax = Partial (*)(float* scores, size_t count);

template <typename Stored>
struct AttentionLoops {
  size_t together;                      // queries that a loop takes at most, kMaxTogether or less
  const Dots<Stored>* dots;             // dots[i] is for i + 1 queries, as are
  const AddValues<Stored>* add_values;  // these
  Softmax softmax;
};

template <typename Stored>
AttentionLoops<Stored> attention_loops_avx2();
template <typename Stored>
AttentionLoops<Stored> attention_loops_avx512();  // for processors with AVX512F, BW and VL

}  // namespace infrs
