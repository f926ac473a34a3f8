// The loops where attention's time goes, once for each kind of processor. Both give the same bits: a score adds the
// features in order, an output the keys, each in a lane of its own, and a sum of weights every eighth of them.
#pragma once

#include <cstddef>

namespace infrs {

constexpr size_t kKeyLanes = 8;     // keys that are stored side by side
constexpr size_t kScoreGroups = 4;  // groups of so many keys that are scored at once
constexpr size_t kScoreKeys = kScoreGroups * kKeyLanes;
constexpr size_t kMaxTogether = 8;

// Dot products of some queries, [head_dim] each, with four groups of keys, [head_dim, 8] each. scores[r]: [32].
using Dots = void (*)(size_t head_dim, const float* const* queries, const float* const* groups, float* const* scores);

// outputs[r] [head_dim] += weights[r] [count] @ values [count, head_dim].
using AddValues = void (*)(size_t head_dim, const float* values, const float* const* weights, size_t count,
                           float* const* outputs);

// A softmax over some of a query's keys: its weights are relative to `max` and come to `sum`.
struct Partial {
  float max, sum;
};

// Turns scores into weights, eight at a time: what lies between `count` and the next multiple of eight is -infinity.
using Softmax = Partial (*)(float* scores, size_t count);

struct AttentionLoops {
  size_t together;              // queries that a loop takes at most, kMaxTogether or less
  const Dots* dots;             // dots[i] is for i + 1 queries, as are
  const AddValues* add_values;  // these
  Softmax softmax;
};

AttentionLoops attention_loops_avx2();
AttentionLoops attention_loops_avx512();  // for processors with AVX512F

}  // namespace infrs
