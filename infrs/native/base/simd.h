// Vector functions of eight floats for AVX2. Each function rounds the same way wherever it is used, so a row's result
// never depends on other rows. Fused multiply-adds are explicit; the compiler may add none (-ffp-contract=off).
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <limits>

namespace infrs {

// Unrolls a loop with constant bounds, so its variables stay in registers.
#if defined(__clang__)
#define INFRS_UNROLL _Pragma("clang loop unroll(full)")
#else
#define INFRS_UNROLL _Pragma("GCC unroll 8")
#endif

constexpr size_t kLanes = 8;

// Reads eight numbers: floats, IEEE halves or integers of 8 bits.
inline __m256 load_lanes(const float* x) { return _mm256_loadu_ps(x); }
inline __m256 load_lanes(const uint16_t* halves) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
}
inline __m256 load_lanes(const int8_t* bytes) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes))));
}

inline float max_lane(__m256 x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

inline float sum_lanes(__m256 x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

// Returns e**x within 2 ulp for x <= 88: exactly 1 for 0, exactly 0 if the result is below the smallest normal number,
// and NaN for NaN, because the instructions for minimum and maximum return their second operand if either is NaN.
// The method is expf of Cephes: x = n ln 2 + r, a polynomial in r, and n written into the exponent bits.
inline __m256 exp_lanes(__m256 x) {
  const __m256 normal = _mm256_cmp_ps(x, _mm256_set1_ps(-87.33654f), _CMP_NLT_UQ);
  const __m256 bounded = _mm256_min_ps(_mm256_set1_ps(88.0f), _mm256_max_ps(_mm256_set1_ps(-87.33654f), x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(bounded, _mm256_set1_ps(1.44269504088896341f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), bounded);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_and_ps(normal, _mm256_mul_ps(p, _mm256_castsi256_ps(exponent)));
}

// Returns tanh(x) with a relative error of at most 2e-7. NaN stays NaN. The method is tanhf of Cephes: a polynomial
// below 0.625, else (1 - e) / (1 + e) for e = exp(-2 |x|), with the sign of x.
inline __m256 tanh_lanes(__m256 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f), one = _mm256_set1_ps(1.0f);
  const __m256 size = _mm256_andnot_ps(sign, x), z = _mm256_mul_ps(x, x);
  __m256 p = _mm256_set1_ps(-5.70498872745e-3f);
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(2.06390887954e-2f));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-5.37397155531e-2f));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(1.33314422036e-1f));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-3.33332819422e-1f));
  const __m256 small = _mm256_fmadd_ps(_mm256_mul_ps(p, z), x, x);
  const __m256 e = exp_lanes(_mm256_mul_ps(_mm256_set1_ps(-2.0f), size));
  const __m256 large = _mm256_div_ps(_mm256_sub_ps(one, e), _mm256_add_ps(one, e));
  const __m256 is_small = _mm256_cmp_ps(size, _mm256_set1_ps(0.625f), _CMP_LT_OQ);
  return _mm256_blendv_ps(_mm256_or_ps(large, _mm256_and_ps(x, sign)), small, is_small);
}

// Returns 1 / (1 + e**-x), from -x.
inline __m256 sigmoid_of_negative(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return _mm256_div_ps(one, _mm256_add_ps(one, exp_lanes(x)));
}

// Returns x / (1 + e**-x).
inline __m256 silu_lanes(__m256 x) {
  return _mm256_mul_ps(x, sigmoid_of_negative(_mm256_xor_ps(x, _mm256_set1_ps(-0.0f))));
}

// Stores eight words of a row between those of the other rows. Returns where the next word of the row goes.
inline uint32_t* put_words(__m256i row, size_t rows, uint32_t* target) {
  alignas(32) uint32_t words[kLanes];
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), row);
  for (uint32_t word : words) {
    *target = word;
    target += rows;
  }
  return target;
}

inline float exp_one(float x) { return _mm256_cvtss_f32(exp_lanes(_mm256_set1_ps(x))); }

}  // namespace infrs
