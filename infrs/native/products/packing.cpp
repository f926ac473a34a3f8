#include "packing.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "../base/pack_threads.h"
#include "../base/simd.h"
#include "../base/transpose.h"
#include "tiles.h"

namespace infrs {
namespace {

constexpr size_t kWord = 4, kWordRow = kColumns * kWord;

float to_float(float value) { return value; }
float to_float(uint16_t half) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))); }

uint16_t to_half(float value) {
  return static_cast<uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(value), _MM_FROUND_TO_NEAREST_INT)));
}

// Spreads the four numbers of four bits in the low half of each word over the word's bytes.
__m256i to_bytes(__m256i levels) {
  levels = _mm256_and_si256(_mm256_or_si256(levels, _mm256_slli_epi32(levels, 8)), _mm256_set1_epi32(0x00ff00ff));
  return _mm256_and_si256(_mm256_or_si256(levels, _mm256_slli_epi32(levels, 4)), _mm256_set1_epi32(0x0f0f0f0f));
}

// Reorders words of eight numbers of four bits: the low four bits of the bytes hold the first four numbers.
__m256i reorder(__m256i levels) {
  const __m256i first = to_bytes(_mm256_and_si256(levels, _mm256_set1_epi32(0xffff)));
  return _mm256_or_si256(first, _mm256_slli_epi32(to_bytes(_mm256_srli_epi32(levels, 16)), 4));
}

// Stores a block of 16 columns, which begin `stride` bytes apart.
void pack_values(const uint8_t* source, size_t stride, int bits, bool wide, uint8_t* target) {
  const __m256i zero = _mm256_set1_epi8(static_cast<char>(wide ? 128 : 0));  // unsigned to signed
  for (size_t word = 0; word < kBlock * bits / 8 / kWord; word += 4) {
    const uint8_t* const place = source + word * kWord;
    const Words first = read_words(place, stride), second = read_words(place + 8 * stride, stride);
    for (size_t i = 0; i < 4; ++i) {
      uint8_t* const row = target + (word + i) * kWordRow;
      if (wide)
        store_halves(row, kWordRow / 2, _mm256_xor_si256(first.of[i], zero), _mm256_xor_si256(second.of[i], zero));
      else if (bits == 8)
        store_words(row, first.of[i], second.of[i]);
      else
        store_words(row, reorder(first.of[i]), reorder(second.of[i]));
    }
  }
}

}  // namespace

template <typename Scale>
float unit_of(const BlockWeights<Scale>& weights) {
  float largest = 0;
  for (size_t i = 0; i < weights.outputs * weights.inputs / kBlock; ++i) {
    const float scale = to_float(weights.scales[i]);
    if (!std::isfinite(scale)) throw std::invalid_argument("scales that are not finite");
    largest = std::max(largest, std::fabs(scale));
  }
  int exponent = 0;
  std::frexp(largest, &exponent);
  return std::ldexp(1.0f, std::max(exponent, -100) - 15);
}

template <typename Scale>
void pack_blocks(const BlockWeights<Scale>& weights, int bits, float unit, bool wide, const Parallel& parallel,
                 uint8_t* target) {
  const size_t blocks = weights.inputs / kBlock, bytes = kBlock * bits / 8, stride = blocks * bytes;
  const size_t block_bytes = kScaleBytes + kColumns * bytes, groups = (weights.outputs + kColumns - 1) / kColumns;
  parallel(groups, kPackGrain / (weights.inputs * kColumns), [&](size_t begin, size_t end) {
    for (size_t group = begin; group < end; ++group) {
      const size_t column = group * kColumns, columns = std::min(kColumns, weights.outputs - column);
      for (size_t block = 0; block < blocks; ++block) {
        uint8_t* const packed = target + (group * blocks + block) * block_bytes;
        uint16_t halves[kColumns] = {};
        for (size_t i = 0; i < columns; ++i)
          halves[i] = to_half(to_float(weights.scales[(column + i) * blocks + block]) / unit);
        std::memcpy(packed, halves, kScaleBytes);
        const uint8_t* const source = weights.values + column * stride + block * bytes;
        if (columns == kColumns) {
          pack_values(source, stride, bits, wide, packed + kScaleBytes);
          continue;
        }
        uint8_t part[kColumns * kBlock];
        std::memset(part, wide ? 128 : 0, sizeof part);  // what becomes zero
        for (size_t i = 0; i < columns; ++i) std::memcpy(part + i * bytes, source + i * stride, bytes);
        pack_values(part, bytes, bits, wide, packed + kScaleBytes);
      }
    }
  });
}

template float unit_of(const BlockWeights<float>&);
template float unit_of(const BlockWeights<uint16_t>&);
template void pack_blocks(const BlockWeights<float>&, int, float, bool, const Parallel&, uint8_t*);
template void pack_blocks(const BlockWeights<uint16_t>&, int, float, bool, const Parallel&, uint8_t*);

}  // namespace infrs
