// The loops of attention for AVX2. A vector holds eight keys or eight features.
#include <limits>
#include <utility>

#include "attention_loops.h"
#include "../base/simd.h"

namespace infrs {
namespace {

constexpr size_t kTogether = 3;  // the sums of so many queries fit into sixteen registers

template <size_t R, typename Stored>
void dots(size_t head_dim, const float* const* queries, const Stored* const* groups, float* const* scores) {
  __m256 dot[R][kScoreGroups] = {};
  const char* const next = reinterpret_cast<const char*>(groups[0] + kScoreKeys * head_dim);
  for (size_t d = 0; d < head_dim; ++d) {
    _mm_prefetch(next + d * kScoreKeys * sizeof(Stored), _MM_HINT_T0);
    __m256 feature[R];
    INFRS_UNROLL
    for (size_t r = 0; r < R; ++r) feature[r] = _mm256_broadcast_ss(queries[r] + d);
    INFRS_UNROLL
    for (size_t g = 0; g < kScoreGroups; ++g) {
      const __m256 key = load_lanes(groups[g] + d * kLanes);
      INFRS_UNROLL
      for (size_t r = 0; r < R; ++r) dot[r][g] = _mm256_fmadd_ps(feature[r], key, dot[r][g]);
    }
  }
  INFRS_UNROLL
  for (size_t r = 0; r < R; ++r) {
    INFRS_UNROLL
    for (size_t g = 0; g < kScoreGroups; ++g) _mm256_storeu_ps(scores[r] + g * kLanes, dot[r][g]);
  }
}

template <size_t R, size_t Vectors, typename Stored>
void add_features(size_t head_dim, const Stored* values, const float* const* weights, size_t count,
                  float* const* outputs, size_t feature) {
  __m256 sum[R][Vectors];
  INFRS_UNROLL
  for (size_t r = 0; r < R; ++r) {
    INFRS_UNROLL
    for (size_t i = 0; i < Vectors; ++i) sum[r][i] = _mm256_loadu_ps(outputs[r] + feature + i * kLanes);
  }
  for (size_t key = 0; key < count; ++key) {
    _mm_prefetch(reinterpret_cast<const char*>(values + (key + kAhead) * head_dim + feature), _MM_HINT_T0);
    __m256 weight[R];
    INFRS_UNROLL
    for (size_t r = 0; r < R; ++r) weight[r] = _mm256_broadcast_ss(weights[r] + key);
    INFRS_UNROLL
    for (size_t i = 0; i < Vectors; ++i) {
      const __m256 value = load_lanes(values + key * head_dim + feature + i * kLanes);
      INFRS_UNROLL
      for (size_t r = 0; r < R; ++r) sum[r][i] = _mm256_fmadd_ps(weight[r], value, sum[r][i]);
    }
  }
  INFRS_UNROLL
  for (size_t r = 0; r < R; ++r) {
    INFRS_UNROLL
    for (size_t i = 0; i < Vectors; ++i) _mm256_storeu_ps(outputs[r] + feature + i * kLanes, sum[r][i]);
  }
}

template <size_t R, typename Stored>
void add_values(size_t head_dim, const Stored* values, const float* const* weights, size_t count,
                float* const* outputs) {
  size_t feature = 0;
  for (; feature + 4 * kLanes <= head_dim; feature += 4 * kLanes)
    add_features<R, 4>(head_dim, values, weights, count, outputs, feature);
  for (; feature < head_dim; feature += kLanes) add_features<R, 1>(head_dim, values, weights, count, outputs, feature);
}

Partial softmax(float* scores, size_t count) {
  __m256 largest = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
  for (size_t i = 0; i < count; i += kLanes) largest = _mm256_max_ps(largest, _mm256_loadu_ps(scores + i));
  const float max = max_lane(largest);
  const __m256 top = _mm256_set1_ps(max);
  __m256 total = _mm256_setzero_ps();
  for (size_t i = 0; i < count; i += kLanes) {
    const __m256 weight = exp_lanes(_mm256_sub_ps(_mm256_loadu_ps(scores + i), top));
    _mm256_storeu_ps(scores + i, weight);
    total = _mm256_add_ps(total, weight);
  }
  return {max, sum_lanes(total)};
}

template <typename Stored, size_t... R>
AttentionLoops<Stored> loops(std::index_sequence<R...>) {
  static constexpr Dots<Stored> all_dots[] = {dots<R + 1, Stored>...};
  static constexpr AddValues<Stored> all_add_values[] = {add_values<R + 1, Stored>...};
  return {sizeof...(R), all_dots, all_add_values, softmax};
}

}  // namespace

template <typename Stored>
AttentionLoops<Stored> attention_loops_avx2() {
  return loops<Stored>(std::make_index_sequence<kTogether>());
}

template AttentionLoops<float> attention_loops_avx2();
template AttentionLoops<Half> attention_loops_avx2();
template AttentionLoops<Byte> attention_loops_avx2();

}  // namespace infrs
