// The loops of attention for AVX-512. A vector holds sixteen keys (two groups of eight) or sixteen features.
#include <limits>
#include <utility>

#include "attention_loops.h"
#include "../base/avx512.h"

INFRS_AVX512_BEGIN

namespace infrs {
namespace {

constexpr size_t kVectorLanes = 16;

inline __m512 two_groups(const float* left, const float* right) {
  return _mm512_castpd_ps(_mm512_insertf64x4(_mm512_castps_pd(_mm512_castps256_ps512(_mm256_loadu_ps(left))),
                                             _mm256_castps_pd(_mm256_loadu_ps(right)), 1));
}

inline __m512 two_groups(const Half* left, const Half* right) {
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(left));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(right));
  return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1));
}

inline __m512 two_groups(const Byte* left, const Byte* right) {
  const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(left));
  const __m128i high = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(right));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_unpacklo_epi64(low, high)));
}

inline __m512 load(__mmask16 lanes, const float* x) { return _mm512_maskz_loadu_ps(lanes, x); }
inline __m512 load(__mmask16 lanes, const Half* x) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, x)); }
inline __m512 load(__mmask16 lanes, const Byte* x) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes, x)));
}

template <size_t R, typename Stored>
void dots(size_t head_dim, const float* const* queries, const Stored* const* groups, float* const* scores) {
  constexpr size_t kVectors = kScoreKeys / kVectorLanes;
  __m512 dot[R][kVectors] = {};
  const char* const next = reinterpret_cast<const char*>(groups[0] + kScoreKeys * head_dim);
  for (size_t d = 0; d < head_dim; ++d) {
    _mm_prefetch(next + d * kScoreKeys * sizeof(Stored), _MM_HINT_T0);
    __m512 key[kVectors];
    INFRS_UNROLL_ALL
    for (size_t i = 0; i < kVectors; ++i)
      key[i] = two_groups(groups[2 * i] + d * kKeyLanes, groups[2 * i + 1] + d * kKeyLanes);
    INFRS_UNROLL_ALL
    for (size_t r = 0; r < R; ++r) {
      const __m512 feature = _mm512_set1_ps(queries[r][d]);
      INFRS_UNROLL_ALL
      for (size_t i = 0; i < kVectors; ++i) dot[r][i] = _mm512_fmadd_ps(feature, key[i], dot[r][i]);
    }
  }
  INFRS_UNROLL_ALL
  for (size_t r = 0; r < R; ++r) {
    INFRS_UNROLL_ALL
    for (size_t i = 0; i < kVectors; ++i) _mm512_storeu_ps(scores[r] + i * kVectorLanes, dot[r][i]);
  }
}

// lanes: those of the last vector that hold a feature.
template <size_t R, size_t Vectors, typename Stored>
void add_features(size_t head_dim, const Stored* values, const float* const* weights, size_t count,
                  float* const* outputs, size_t feature, __mmask16 lanes) {
  const auto mask = [&](size_t i) { return i + 1 < Vectors ? __mmask16{0xffff} : lanes; };
  __m512 sum[R][Vectors];
  INFRS_UNROLL_ALL
  for (size_t r = 0; r < R; ++r) {
    INFRS_UNROLL_ALL
    for (size_t i = 0; i < Vectors; ++i)
      sum[r][i] = _mm512_maskz_loadu_ps(mask(i), outputs[r] + feature + i * kVectorLanes);
  }
  for (size_t key = 0; key < count; ++key) {
    _mm_prefetch(reinterpret_cast<const char*>(values + (key + kAhead) * head_dim + feature), _MM_HINT_T0);
    __m512 value[Vectors];
    INFRS_UNROLL_ALL
    for (size_t i = 0; i < Vectors; ++i)
      value[i] = load(mask(i), values + key * head_dim + feature + i * kVectorLanes);
    INFRS_UNROLL_ALL
    for (size_t r = 0; r < R; ++r) {
      const __m512 weight = _mm512_set1_ps(weights[r][key]);
      INFRS_UNROLL_ALL
      for (size_t i = 0; i < Vectors; ++i) sum[r][i] = _mm512_fmadd_ps(weight, value[i], sum[r][i]);
    }
  }
  INFRS_UNROLL_ALL
  for (size_t r = 0; r < R; ++r) {
    INFRS_UNROLL_ALL
    for (size_t i = 0; i < Vectors; ++i)
      _mm512_mask_storeu_ps(outputs[r] + feature + i * kVectorLanes, mask(i), sum[r][i]);
  }
}

template <size_t R, typename Stored>
void add_values(size_t head_dim, const Stored* values, const float* const* weights, size_t count,
                float* const* outputs) {
  size_t feature = 0;
  for (; feature + 2 * kVectorLanes <= head_dim; feature += 2 * kVectorLanes)
    add_features<R, 2>(head_dim, values, weights, count, outputs, feature, 0xffff);
  for (; feature < head_dim; feature += kVectorLanes) {
    const __mmask16 lanes = feature + kVectorLanes <= head_dim ? 0xffff : 0x00ff;
    add_features<R, 1>(head_dim, values, weights, count, outputs, feature, lanes);
  }
}

// Does the same steps as `exp_lanes` in simd.h.
inline __m512 exp_lanes(__m512 x) {
  const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.33654f), _CMP_NLT_UQ);
  const __m512 bounded = _mm512_min_ps(_mm512_set1_ps(88.0f), _mm512_max_ps(_mm512_set1_ps(-87.33654f), x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(bounded, _mm512_set1_ps(1.44269504088896341f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), bounded);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
  const __m512i exponent = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23);
  return _mm512_maskz_mul_ps(normal, p, _mm512_castsi512_ps(exponent));
}

// The same as in simd.h, where it is compiled for AVX2.
inline float sum_lanes(__m256 x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

inline __m256 high_half(__m512 x) {
  return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
}

Partial softmax(float* scores, size_t count) {
  const __m512 unseen = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  const auto mask = [&](size_t i) { return static_cast<__mmask16>(i + kKeyLanes < count ? 0xffff : 0x00ff); };
  __m512 largest = unseen;
  for (size_t i = 0; i < count; i += kVectorLanes)
    largest = _mm512_max_ps(largest, _mm512_mask_loadu_ps(unseen, mask(i), scores + i));
  const float max = _mm512_reduce_max_ps(largest);
  const __m512 top = _mm512_set1_ps(max);
  __m256 total = _mm256_setzero_ps();
  for (size_t i = 0; i < count; i += kVectorLanes) {
    const __m512 weight = exp_lanes(_mm512_sub_ps(_mm512_mask_loadu_ps(unseen, mask(i), scores + i), top));
    _mm512_mask_storeu_ps(scores + i, mask(i), weight);
    total = _mm256_add_ps(_mm256_add_ps(total, _mm512_castps512_ps256(weight)), high_half(weight));
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
AttentionLoops<Stored> attention_loops_avx512() {
  return loops<Stored>(std::make_index_sequence<kMaxTogether>());
}

template AttentionLoops<float> attention_loops_avx512();
template AttentionLoops<Half> attention_loops_avx512();
template AttentionLoops<Byte> attention_loops_avx512();

}  // namespace infrs

INFRS_AVX512_END
