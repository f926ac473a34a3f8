// Dense tiles for AVX2, FMA and F16C. A tile takes as many columns at a time as its sums fit into 12 registers.
#include <utility>

#include "../base/simd.h"
#include "dense_tiles.h"

namespace infrs {
namespace {

constexpr size_t kMaxRows = 6;  // with two vectors of columns each

inline void prefetch(const uint8_t* weights) {
  _mm_prefetch(reinterpret_cast<const char*>(weights), _MM_HINT_T0);
}

inline __m256i load(const uint8_t* address) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(address)); }

// Reads the weights of one of two inputs for eight columns. `vector` counts vectors of columns, `odd` is 0 or 1.
template <WeightType type>
inline __m256 read(const uint8_t* weights, size_t vector, size_t odd) {
  if constexpr (type == WeightType::kBFloat16) {
    const __m256i pairs = load(weights + 32 * vector);
    return _mm256_castsi256_ps(odd ? _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u)))
                                   : _mm256_slli_epi32(pairs, 16));
  } else if constexpr (type == WeightType::kFloat16) {
    const auto* halves = reinterpret_cast<const __m128i*>(weights + 2 * kDenseColumns * odd + 16 * vector);
    return _mm256_cvtph_ps(_mm_loadu_si128(halves));
  } else {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(weights) + kDenseColumns * odd + kLanes * vector);
  }
}

// Computes V vectors of columns for R rows, from vector `first`.
template <WeightType type, size_t R, size_t V>
inline void columns(const DenseTileInput& input, size_t first, float (*y)[kDenseColumns]) {
  constexpr size_t kStep = 2 * kDenseColumns * bytes_of(type);
  const uint8_t* weights = input.weights;
  const auto* x = reinterpret_cast<const float*>(input.x);
  __m256 sum[R][V] = {};
  for (size_t pair = 0; pair < input.pairs; ++pair, weights += kStep, x += 2 * R) {
    if (!first)
      for (size_t line = 0; line < kStep; line += 64) prefetch(weights + input.ahead + line);
    INFRS_UNROLL
    for (size_t odd = 0; odd < 2; ++odd) {
      __m256 weight[V];
      INFRS_UNROLL
      for (size_t v = 0; v < V; ++v) weight[v] = read<type>(weights, first + v, odd);
      INFRS_UNROLL
      for (size_t r = 0; r < R; ++r) {
        const __m256 factor = _mm256_set1_ps(x[odd * R + r]);
        INFRS_UNROLL
        for (size_t v = 0; v < V; ++v) {
          sum[r][v] = _mm256_fmadd_ps(factor, weight[v], sum[r][v]);
          // Prevents the compiler from loading the inputs of all rows first, which spills the sums.
          asm("" : "+x"(sum[r][v]));
        }
      }
    }
  }
  INFRS_UNROLL
  for (size_t r = 0; r < R; ++r) {
    INFRS_UNROLL
    for (size_t v = 0; v < V; ++v) _mm256_storeu_ps(y[r] + kLanes * (first + v), sum[r][v]);
  }
}

template <WeightType type, size_t R>
void tile(const DenseTileInput& input, float (*y)[kDenseColumns]) {
  constexpr size_t kVectors = R <= 2 ? 4 : 2;
  for (size_t first = 0; first < kDenseColumns / kLanes; first += kVectors) columns<type, R, kVectors>(input, first, y);
}

template <WeightType type, size_t... R>
DenseKernel kernel(std::index_sequence<R...>) {
  static constexpr DenseTile tiles[] = {tile<type, R + 1>...};
  return {sizeof...(R), tiles, false};
}

}  // namespace

DenseKernel dense_tiles_avx2(WeightType type) {
  constexpr auto rows = std::make_index_sequence<kMaxRows>();
  switch (type) {
    case WeightType::kFloat32: return kernel<WeightType::kFloat32>(rows);
    case WeightType::kFloat16: return kernel<WeightType::kFloat16>(rows);
    default: return kernel<WeightType::kBFloat16>(rows);
  }
}

}  // namespace infrs
