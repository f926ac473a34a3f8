// The inner loops of packing weights: transposes words of columns that are apart, and writes past the caches.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "simd.h"

namespace infrs {

// Four words of eight columns.
struct Words {
  __m256i of[4];  // of[i] has word i of each column
};

// Reads columns that begin `stride` bytes apart.
inline Words read_words(const uint8_t* source, size_t stride) {
  __m256i pairs[4];  // columns i and i + 4
  INFRS_UNROLL
  for (size_t i = 0; i < 4; ++i)
    pairs[i] = _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(source + (i + 4) * stride),
                                   reinterpret_cast<const __m128i*>(source + i * stride));
  const __m256i low01 = _mm256_unpacklo_epi32(pairs[0], pairs[1]), high01 = _mm256_unpackhi_epi32(pairs[0], pairs[1]);
  const __m256i low23 = _mm256_unpacklo_epi32(pairs[2], pairs[3]), high23 = _mm256_unpackhi_epi32(pairs[2], pairs[3]);
  return {{_mm256_unpacklo_epi64(low01, low23), _mm256_unpackhi_epi64(low01, low23),
           _mm256_unpacklo_epi64(high01, high23), _mm256_unpackhi_epi64(high01, high23)}};
}

inline void store(uint8_t* target, __m256i vector) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), vector); }

// Stores the words of 16 columns side by side, in 64 bytes.
inline void store_words(uint8_t* target, __m256i first, __m256i second) {
  store(target, first);
  store(target + 32, second);
}

// Stores the low halves of the words of 16 columns side by side in 32 bytes, and the high halves `apart` bytes further.
inline void store_halves(uint8_t* target, size_t apart, __m256i first, __m256i second) {
  const __m256i mask = _mm256_set1_epi32(0xffff);
  const __m256i low = _mm256_packus_epi32(_mm256_and_si256(first, mask), _mm256_and_si256(second, mask));
  const __m256i high = _mm256_packus_epi32(_mm256_srli_epi32(first, 16), _mm256_srli_epi32(second, 16));
  // Packing keeps the halves of its operands apart; this puts the columns back into their order.
  store(target, _mm256_permute4x64_epi64(low, 0xd8));
  store(target + apart, _mm256_permute4x64_epi64(high, 0xd8));
}

// Copies a multiple of 64 bytes to the start of a cache line without reading the lines of `target` first, which saves
// a third of the memory traffic. Call `end_streams` before another thread reads them.
inline void stream(uint8_t* target, const uint8_t* source, size_t size) {
  for (size_t i = 0; i < size; i += 32)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(target + i),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i)));
}

inline void end_streams() { _mm_sfence(); }

}  // namespace infrs
