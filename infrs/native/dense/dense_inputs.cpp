#include "dense_inputs.h"

#include <algorithm>
#include <cstring>

#include "../base/simd.h"

namespace infrs {
namespace {

// Returns eight numbers rounded to bfloat16, ties to even, in the low halves of the lanes. NaN stays NaN.
inline __m256i to_bfloat16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
}

// Returns eight pairs of 16 numbers.
inline __m256i to_pairs(const float* x) {
  const __m256i first = to_bfloat16(_mm256_loadu_ps(x)), second = to_bfloat16(_mm256_loadu_ps(x + kLanes));
  // Packing keeps the halves of its operands apart; this puts the pairs back into their order.
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(first, second), 0xd8);
}

}  // namespace

void interleave(const float* x, size_t rows, size_t inputs, uint32_t* target) {
  for (size_t row = 0; row < rows; ++row, x += inputs) {
    uint32_t* place = target + row;
    size_t k = 0;
    for (; k + kLanes <= inputs; k += kLanes)
      place = put_words(_mm256_castps_si256(_mm256_loadu_ps(x + k)), rows, place);
    for (; k < inputs; ++k, place += rows) std::memcpy(place, x + k, sizeof *place);
    if (inputs % 2) *place = 0;
  }
}

void interleave_rounded(const float* x, size_t rows, size_t inputs, uint32_t* target) {
  constexpr size_t kStep = 2 * kLanes;
  for (size_t row = 0; row < rows; ++row, x += inputs) {
    uint32_t* place = target + row;
    size_t k = 0;
    for (; k + kStep <= inputs; k += kStep) place = put_words(to_pairs(x + k), rows, place);
    if (k < inputs) {
      float rest[kStep] = {};
      std::copy_n(x + k, inputs - k, rest);
      alignas(32) uint32_t words[kLanes];
      _mm256_store_si256(reinterpret_cast<__m256i*>(words), to_pairs(rest));
      for (size_t pair = 0; pair < (inputs - k + 1) / 2; ++pair, place += rows) *place = words[pair];
    }
  }
}

}  // namespace infrs
