// Logarithms of four weights, and the sum of four numbers.
#pragma once

#include <immintrin.h>

namespace infrs {

// Returns log(x) within 1e-12 for normal numbers: x = 2**n m with m around 1, and log(m) = 2 artanh(s) for
// s = (m - 1) / (m + 1). Below the normal numbers the result is only finite.
inline __m256d log_lanes(__m128 x) {
  const __m128i bits = _mm_castps_si128(x), least = _mm_set1_epi32(0x3f3504f3);  // the square root of 1/2
  const __m128i n = _mm_srai_epi32(_mm_sub_epi32(bits, least), 23);
  const __m256d m = _mm256_cvtps_pd(_mm_castsi128_ps(_mm_sub_epi32(bits, _mm_slli_epi32(n, 23))));
  const __m256d one = _mm256_set1_pd(1.0);
  const __m256d s = _mm256_div_pd(_mm256_sub_pd(m, one), _mm256_add_pd(m, one)), z = _mm256_mul_pd(s, s);
  __m256d p = _mm256_set1_pd(2.0 / 13);
  for (const double divisor : {11.0, 9.0, 7.0, 5.0, 3.0, 1.0}) p = _mm256_fmadd_pd(p, z, _mm256_set1_pd(2 / divisor));
  return _mm256_fmadd_pd(_mm256_cvtepi32_pd(n), _mm256_set1_pd(0.69314718055994530942), _mm256_mul_pd(s, p));
}

inline double sum_lanes(__m256d x) {
  const __m128d y = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
  return _mm_cvtsd_f64(_mm_add_sd(y, _mm_unpackhi_pd(y, y)));
}

}  // namespace infrs
