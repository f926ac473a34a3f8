// Tiles for AVX2: two vectors of eight outputs.
#include <cstring>
#include <utility>

#include "../base/simd.h"
#include "tiles.h"

namespace infrs {
namespace {

constexpr size_t kMaxRows = 6;  // the sums of so many rows fit into sixteen registers

inline __m256i broadcast_32_bits(const void* address) {
  int32_t bits;
  std::memcpy(&bits, address, sizeof bits);
  return _mm256_set1_epi32(bits);
}

// Prevents the compiler from loading the inputs of all rows first, which spills the sums and takes 1.5 times as long.
inline void keep_in_registers(__m256i (&sum)[2]) { asm("" : "+x"(sum[0]), "+x"(sum[1])); }

inline __m256 half_lanes(const uint8_t* address) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(address)));
}

inline void prefetch(const uint8_t* weights) { _mm_prefetch(reinterpret_cast<const char*>(weights), _MM_HINT_T0); }

// The totals are in memory, because the registers hold the sums of a block.
inline void add_scaled(float* total, __m256i sum, __m256 scale) {
  _mm256_storeu_ps(total, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, _mm256_loadu_ps(total)));
}

// Sixteen outputs of R rows with 8-bit weights. Pairs of products are added to 32-bit sums (|sum| < 2**28). The sum of
// a block is scaled and added in float32.
template <size_t R>
void tile_8_bits(const TileInput& input, float (*y)[kColumns]) {
  const size_t ahead = input.ahead;
  const uint8_t* weights = input.weights;
  const uint8_t* words = input.words;
  std::memset(y, 0, R * sizeof *y);
  for (size_t block = 0; block < input.blocks; ++block) {
    const uint8_t* scales = weights;
    weights += kScaleBytes;
    __m256i sum[R][2] = {};
    for (size_t pair = 0; pair < kBlock / 2; ++pair, weights += 2 * kColumns, words += 4 * R) {
      if (pair % 2 == 0) prefetch(weights + ahead);
      const __m256i left = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights)));
      const __m256i right = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights + kColumns)));
      INFRS_UNROLL
      for (size_t r = 0; r < R; ++r) {
        const __m256i inputs = broadcast_32_bits(words + 4 * r);
        sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(left, inputs));
        sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(right, inputs));
        keep_in_registers(sum[r]);
      }
    }
    const __m256 left_scale = half_lanes(scales), right_scale = half_lanes(scales + kScaleBytes / 2);
    INFRS_UNROLL
    for (size_t r = 0; r < R; ++r) {
      add_scaled(y[r], sum[r][0], left_scale);
      add_scaled(y[r] + kLanes, sum[r][1], right_scale);
    }
  }
}

// Sixteen outputs of R rows with 4-bit weights. The products of a block fit 16-bit sums (8 * 2 * 15 * 127 < 2**15).
template <size_t R>
void tile_4_bits(const TileInput& input, float (*y)[kColumns]) {
  const size_t ahead = input.ahead;
  const uint8_t* weights = input.weights;
  const uint8_t* words = input.words;
  const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  std::memset(y, 0, R * sizeof *y);
  for (size_t block = 0; block < input.blocks; ++block) {
    const uint8_t* weight_scales = weights;
    weights += kScaleBytes;
    __m256i sum[R][2] = {};
    for (size_t step = 0; step < kBlock / 8; ++step, weights += 4 * kColumns, words += 8 * R) {
      prefetch(weights + ahead);
      const __m256i left = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights));
      const __m256i right = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + 2 * kColumns));
      const __m256i low[2] = {_mm256_and_si256(left, nibble), _mm256_and_si256(right, nibble)};
      const __m256i high[2] = {_mm256_and_si256(_mm256_srli_epi16(left, 4), nibble),
                               _mm256_and_si256(_mm256_srli_epi16(right, 4), nibble)};
      INFRS_UNROLL
      for (size_t r = 0; r < R; ++r) {
        const __m256i first = broadcast_32_bits(words + 4 * r);
        const __m256i second = broadcast_32_bits(words + 4 * (R + r));
        sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(low[0], first));
        sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(low[1], first));
        sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(high[0], second));
        sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(high[1], second));
        keep_in_registers(sum[r]);
      }
    }
    const __m256 left_scale = half_lanes(weight_scales), right_scale = half_lanes(weight_scales + kScaleBytes / 2);
    INFRS_UNROLL
    for (size_t r = 0; r < R; ++r) {
      const __m256i start = _mm256_set1_epi32(input.starts[block * R + r]);
      const __m256 scale = _mm256_set1_ps(input.scales[block * R + r]);
      const __m256i left_sum = _mm256_add_epi32(_mm256_madd_epi16(sum[r][0], ones), start);
      const __m256i right_sum = _mm256_add_epi32(_mm256_madd_epi16(sum[r][1], ones), start);
      add_scaled(y[r], left_sum, _mm256_mul_ps(left_scale, scale));
      add_scaled(y[r] + kLanes, right_sum, _mm256_mul_ps(right_scale, scale));
    }
  }
}

// Sixteen outputs of R rows with weights of 16 levels. A level may be -128 to 127, so the product takes its magnitude,
// which is unsigned, and the input with its sign. Two products fit 16 bits (2 * 128 * 127 < 2**15), more do not.
template <size_t R>
void tile_levels(const TileInput& input, float (*y)[kColumns]) {
  const size_t ahead = input.ahead;
  const uint8_t* weights = input.weights;
  const uint8_t* words = input.words;
  const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  const __m128i plus_128 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(input.levels));
  const __m256i levels = _mm256_broadcastsi128_si256(_mm_xor_si128(plus_128, _mm_set1_epi8(-128)));
  std::memset(y, 0, R * sizeof *y);
  for (size_t block = 0; block < input.blocks; ++block) {
    const uint8_t* weight_scales = weights;
    weights += kScaleBytes;
    __m256i sum[R][2] = {};
    for (size_t step = 0; step < kBlock / 4; ++step, words += 4 * R) {
      prefetch(weights + ahead);
      __m256i level[2], size[2];
      for (size_t side = 0; side < 2; ++side) {
        const __m256i read = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + side * 2 * kColumns));
        const __m256i numbers = _mm256_and_si256(step % 2 ? _mm256_srli_epi16(read, 4) : read, nibble);
        level[side] = _mm256_shuffle_epi8(levels, numbers);
        size[side] = _mm256_abs_epi8(level[side]);
      }
      weights += step % 2 * 4 * kColumns;
      INFRS_UNROLL
      for (size_t r = 0; r < R; ++r) {
        const __m256i inputs = broadcast_32_bits(words + 4 * r);
        for (size_t side = 0; side < 2; ++side) {
          const __m256i pairs = _mm256_maddubs_epi16(size[side], _mm256_sign_epi8(inputs, level[side]));
          sum[r][side] = _mm256_add_epi32(sum[r][side], _mm256_madd_epi16(pairs, ones));
        }
        keep_in_registers(sum[r]);
      }
    }
    const __m256 left_scale = half_lanes(weight_scales), right_scale = half_lanes(weight_scales + kScaleBytes / 2);
    INFRS_UNROLL
    for (size_t r = 0; r < R; ++r) {
      const __m256 scale = _mm256_set1_ps(input.scales[block * R + r]);
      add_scaled(y[r], sum[r][0], _mm256_mul_ps(left_scale, scale));
      add_scaled(y[r] + kLanes, sum[r][1], _mm256_mul_ps(right_scale, scale));
    }
  }
}

// Sixteen outputs of R rows with weights of narrow levels. Two steps fit 16-bit sums. Eight outputs at a time leave
// registers for the levels.
template <size_t R>
void tile_narrow_levels(const TileInput& input, float (*y)[kColumns]) {
  const size_t ahead = input.ahead;
  const uint8_t* weights = input.weights;
  const uint8_t* words = input.words;
  const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  const __m256i levels = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(input.levels)));
  std::memset(y, 0, R * sizeof *y);
  for (size_t block = 0; block < input.blocks; ++block, words += kBlock * R) {
    const uint8_t* weight_scales = weights;
    weights += kScaleBytes;
    for (size_t side = 0; side < 2; ++side) {
      __m256i sum[R];
      INFRS_UNROLL
      for (size_t r = 0; r < R; ++r) sum[r] = _mm256_set1_epi32(input.starts[block * R + r]);
      for (size_t step = 0; step < kBlock / 8; ++step) {
        const uint8_t* place = weights + (2 * step + side) * 2 * kColumns;
        prefetch(place + ahead);
        const __m256i read = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(place));
        const __m256i low = _mm256_shuffle_epi8(levels, _mm256_and_si256(read, nibble));
        const __m256i high = _mm256_shuffle_epi8(levels, _mm256_and_si256(_mm256_srli_epi16(read, 4), nibble));
        const uint8_t* inputs = words + step * 8 * R;
        INFRS_UNROLL
        for (size_t r = 0; r < R; ++r) {
          const __m256i first = _mm256_maddubs_epi16(low, broadcast_32_bits(inputs + 4 * r));
          const __m256i second = _mm256_maddubs_epi16(high, broadcast_32_bits(inputs + 4 * (R + r)));
          sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(_mm256_add_epi16(first, second), ones));
          asm("" : "+x"(sum[r]));
        }
      }
      const __m256 weight_scale = half_lanes(weight_scales + side * kScaleBytes / 2);
      INFRS_UNROLL
      for (size_t r = 0; r < R; ++r)
        add_scaled(y[r] + side * kLanes, sum[r],
                   _mm256_mul_ps(weight_scale, _mm256_set1_ps(input.scales[block * R + r])));
    }
    weights += kBlock / 2 * kColumns;
  }
}

template <size_t... R>
TileKernel kernel(Weights weights, std::index_sequence<R...>) {
  static constexpr Tile tiles[][sizeof...(R)] = {
      {tile_8_bits<R + 1>...}, {tile_4_bits<R + 1>...}, {tile_levels<R + 1>...}, {tile_narrow_levels<R + 1>...}};
  return {sizeof...(R), tiles[static_cast<size_t>(weights)], weights == Weights::kBytes};
}

}  // namespace

TileKernel tiles_avx2(Weights weights, bool) { return kernel(weights, std::make_index_sequence<kMaxRows>()); }

}  // namespace infrs
