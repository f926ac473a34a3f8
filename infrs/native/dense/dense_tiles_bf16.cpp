// Dense tiles for AVX512-BF16. One instruction multiplies two inputs with two weights and adds both products.
#include <cstring>
#include <utility>

#include "../base/avx512.h"
#include "dense_tiles.h"

INFRS_AVX512_BF16_BEGIN

namespace infrs {
namespace {

// A vector of integers as pairs of bfloat16.
inline __m512bh as_pairs(__m512i bits) {
  __m512bh pairs;
  std::memcpy(&pairs, &bits, sizeof pairs);
  return pairs;
}

template <size_t R>
void tile(const DenseTileInput& input, float (*y)[kDenseColumns]) {
  constexpr size_t kStep = 4 * kDenseColumns;
  const uint8_t* weights = input.weights;
  const uint32_t* x = input.x;
  __m512 sum[R][2] = {};
  for (size_t pair = 0; pair < input.pairs; ++pair, weights += kStep, x += R) {
    INFRS_UNROLL_ALL
    for (size_t line = 0; line < kStep; line += 64)
      _mm_prefetch(reinterpret_cast<const char*>(weights + input.ahead + line), _MM_HINT_T0);
    const __m512bh low = as_pairs(_mm512_loadu_si512(weights)), high = as_pairs(_mm512_loadu_si512(weights + 64));
    INFRS_UNROLL_ALL
    for (size_t r = 0; r < R; ++r) {
      const __m512bh factors = as_pairs(_mm512_set1_epi32(static_cast<int>(x[r])));
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], low, factors);
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], high, factors);
      // Prevents the compiler from loading the inputs of all rows first, which spills the sums.
      asm("" : "+v"(sum[r][0]), "+v"(sum[r][1]));
    }
  }
  INFRS_UNROLL_ALL
  for (size_t r = 0; r < R; ++r) {
    _mm512_storeu_ps(y[r], sum[r][0]);
    _mm512_storeu_ps(y[r] + 16, sum[r][1]);
  }
}

template <size_t... R>
DenseKernel kernel(std::index_sequence<R...>) {
  static constexpr DenseTile tiles[] = {tile<R + 1>...};
  return {sizeof...(R), tiles, true};
}

}  // namespace

DenseKernel dense_tiles_bf16() { return kernel(std::make_index_sequence<kMaxDenseRows>()); }

}  // namespace infrs

INFRS_AVX512_END
