// Dense tiles for AVX-512.
#include <utility>

#include "../base/avx512.h"
#include "dense_tiles.h"

INFRS_AVX512_BEGIN

namespace infrs {
namespace {

// Two vectors of the weights of one input, for 32 columns.
struct Weights {
  __m512 low, high;
};

inline __m512 widen_even(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }

inline __m512 widen_odd(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

inline __m512 widen_half(const uint8_t* halves) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves)));
}

// Reads the weights of two inputs.
template <WeightType type>
inline void read(const uint8_t* weights, Weights& even, Weights& odd) {
  if constexpr (type == WeightType::kBFloat16) {
    const __m512i low = _mm512_loadu_si512(weights), high = _mm512_loadu_si512(weights + 64);
    even = {widen_even(low), widen_even(high)};
    odd = {widen_odd(low), widen_odd(high)};
  } else if constexpr (type == WeightType::kFloat16) {
    even = {widen_half(weights), widen_half(weights + 32)};
    odd = {widen_half(weights + 64), widen_half(weights + 96)};
  } else {
    even = {_mm512_loadu_ps(weights), _mm512_loadu_ps(weights + 64)};
    odd = {_mm512_loadu_ps(weights + 128), _mm512_loadu_ps(weights + 192)};
  }
}

template <size_t R>
inline void add(__m512 (&sum)[R][2], const Weights& weights, const float* x) {
  INFRS_UNROLL_ALL
  for (size_t r = 0; r < R; ++r) {
    const __m512 factor = _mm512_set1_ps(x[r]);
    sum[r][0] = _mm512_fmadd_ps(factor, weights.low, sum[r][0]);
    sum[r][1] = _mm512_fmadd_ps(factor, weights.high, sum[r][1]);
    // Prevents the compiler from loading the inputs of all rows first, which spills the sums.
    asm("" : "+v"(sum[r][0]), "+v"(sum[r][1]));
  }
}

template <WeightType type, size_t R>
void tile(const DenseTileInput& input, float (*y)[kDenseColumns]) {
  constexpr size_t kStep = 2 * kDenseColumns * bytes_of(type);
  const uint8_t* weights = input.weights;
  const auto* x = reinterpret_cast<const float*>(input.x);
  __m512 sum[R][2] = {};
  for (size_t pair = 0; pair < input.pairs; ++pair, weights += kStep, x += 2 * R) {
    INFRS_UNROLL_ALL
    for (size_t line = 0; line < kStep; line += 64)
      _mm_prefetch(reinterpret_cast<const char*>(weights + input.ahead + line), _MM_HINT_T0);
    Weights even, odd;
    read<type>(weights, even, odd);
    add<R>(sum, even, x);
    add<R>(sum, odd, x + R);
  }
  INFRS_UNROLL_ALL
  for (size_t r = 0; r < R; ++r) {
    _mm512_storeu_ps(y[r], sum[r][0]);
    _mm512_storeu_ps(y[r] + 16, sum[r][1]);
  }
}

template <WeightType type, size_t... R>
DenseKernel kernel(std::index_sequence<R...>) {
  static constexpr DenseTile tiles[] = {tile<type, R + 1>...};
  return {sizeof...(R), tiles, false};
}

}  // namespace

DenseKernel dense_tiles_avx512(WeightType type) {
  constexpr auto rows = std::make_index_sequence<kMaxDenseRows>();
  switch (type) {
    case WeightType::kFloat32: return kernel<WeightType::kFloat32>(rows);
    case WeightType::kFloat16: return kernel<WeightType::kFloat16>(rows);
    default: return kernel<WeightType::kBFloat16>(rows);
  }
}

}  // namespace infrs

INFRS_AVX512_END
