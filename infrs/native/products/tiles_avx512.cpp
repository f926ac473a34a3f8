// Tiles for AVX512-VNNI. One instruction multiplies and adds two 16-bit integers, or four bytes, for sixteen outputs.
#include <cstring>
#include <utility>

#include "../base/avx512.h"
#include "tiles.h"

INFRS_AVX512_BEGIN

namespace infrs {
namespace {

// Few rows use several sums each. With one sum each, every addition would wait for the one before.
template <size_t R>
constexpr size_t kSums = R == 1 ? 4 : R <= 3 ? 2 : 1;

inline __m512i broadcast_32_bits(const void* address) {
  int32_t bits;
  std::memcpy(&bits, address, sizeof bits);
  return _mm512_set1_epi32(bits);
}

// Prevents the compiler from loading the inputs of all rows first, which spills the sums.
inline void keep_in_register(__m512i& sum) { asm("" : "+v"(sum)); }

inline void prefetch(const uint8_t* weights) { _mm_prefetch(reinterpret_cast<const char*>(weights), _MM_HINT_T0); }

inline __m512 scales_of(const uint8_t* block) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(block)));
}

template <size_t N>
inline __m512i added(const __m512i (&sums)[N]) {
  __m512i total = sums[0];
  INFRS_UNROLL_ALL
  for (size_t i = 1; i < N; ++i) total = _mm512_add_epi32(total, sums[i]);
  return total;
}

// The totals are in memory, because the registers hold the sums of a block.
inline void add_scaled(float* total, __m512i sum, __m512 scale) {
  _mm512_storeu_ps(total, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, _mm512_loadu_ps(total)));
}

// Sixteen outputs of R rows with 8-bit weights and 16-bit inputs.
template <size_t R>
void tile_words(const TileInput& input, float (*y)[kColumns]) {
  const size_t ahead = input.ahead;
  const uint8_t* weights = input.weights;
  const uint8_t* words = input.words;
  std::memset(y, 0, R * sizeof *y);
  for (size_t block = 0; block < input.blocks; ++block) {
    const __m512 scale = scales_of(weights);
    weights += kScaleBytes;
    __m512i sum[R][kSums<R>] = {};
    INFRS_UNROLL_ALL
    for (size_t pair = 0; pair < kBlock / 2; ++pair, weights += 2 * kColumns, words += 4 * R) {
      if (pair % 2 == 0) prefetch(weights + ahead);
      const __m512i weight = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights)));
      INFRS_UNROLL_ALL
      for (size_t r = 0; r < R; ++r) {
        __m512i& into = sum[r][pair % kSums<R>];
        into = _mm512_dpwssd_epi32(into, weight, broadcast_32_bits(words + 4 * r));
        keep_in_register(into);
      }
    }
    INFRS_UNROLL_ALL
    for (size_t r = 0; r < R; ++r) add_scaled(y[r], added(sum[r]), scale);
  }
}

// Initializes the sums of a block with its `starts`, so the unsigned weights need no correction for their zero level.
template <size_t R>
inline void begin(__m512i (&sum)[R][kSums<R>], const int32_t* starts) {
  INFRS_UNROLL_ALL
  for (size_t r = 0; r < R; ++r) {
    sum[r][0] = _mm512_set1_epi32(starts[r]);
    INFRS_UNROLL_ALL
    for (size_t i = 1; i < kSums<R>; ++i) sum[r][i] = _mm512_setzero_si512();
  }
}

template <size_t R>
inline void add_block(__m512 (&total)[R], const __m512i (&sum)[R][kSums<R>], __m512 weight_scale, const float* scales) {
  INFRS_UNROLL_ALL
  for (size_t r = 0; r < R; ++r) {
    const __m512 scale = _mm512_mul_ps(weight_scale, _mm512_set1_ps(scales[r]));
    total[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(added(sum[r])), scale, total[r]);
  }
}

template <size_t R>
inline void multiply_bytes(__m512i (&sum)[R][kSums<R>], __m512i weight, const uint8_t* words, size_t step) {
  INFRS_UNROLL_ALL
  for (size_t r = 0; r < R; ++r) {
    __m512i& into = sum[r][step % kSums<R>];
    into = _mm512_dpbusd_epi32(into, weight, broadcast_32_bits(words + 4 * r));
    keep_in_register(into);
  }
}

// Returns four copies of 16 levels.
inline __m512i four_times(const uint8_t* address) {
  return _mm512_maskz_broadcast_i32x4(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(address)));
}

// Returns the weights of numbers of four bits.
template <Weights W>
inline __m512i weights_of(__m512i numbers, __m512i levels) {
  return W == Weights::kLevels ? _mm512_shuffle_epi8(levels, numbers) : numbers;
}

template <size_t R, Weights W>
void tile_bytes(const TileInput& input, float (*y)[kColumns]) {
  const size_t ahead = input.ahead;
  const uint8_t* weights = input.weights;
  const uint8_t* words = input.words;
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i levels = W == Weights::kLevels ? four_times(input.levels) : nibble;
  __m512 total[R] = {};
  for (size_t block = 0; block < input.blocks; ++block) {
    const __m512 weight_scale = scales_of(weights);
    weights += kScaleBytes;
    __m512i sum[R][kSums<R>];
    begin(sum, input.starts + block * R);
    INFRS_UNROLL_ALL
    for (size_t step = 0; step < kBlock / 4; step += W == Weights::kBytes ? 1 : 2, weights += 4 * kColumns) {
      prefetch(weights + ahead);
      const __m512i read = _mm512_loadu_si512(weights);
      if constexpr (W == Weights::kBytes) {
        multiply_bytes<R>(sum, read, words, step);
        words += 4 * R;
      } else {
        const __m512i low = _mm512_and_si512(read, nibble);
        const __m512i high = _mm512_and_si512(_mm512_srli_epi16(read, 4), nibble);
        multiply_bytes<R>(sum, weights_of<W>(low, levels), words, step);
        multiply_bytes<R>(sum, weights_of<W>(high, levels), words + 4 * R, step + 1);
        words += 8 * R;
      }
    }
    add_block<R>(total, sum, weight_scale, input.scales + block * R);
  }
  INFRS_UNROLL_ALL
  for (size_t r = 0; r < R; ++r) _mm512_storeu_ps(y[r], total[r]);
}

template <size_t... R>
TileKernel kernel(Weights weights, bool wide, std::index_sequence<R...>) {
  static constexpr Tile words[] = {tile_words<R + 1>...};
  static constexpr Tile tiles[][sizeof...(R)] = {{tile_bytes<R + 1, Weights::kBytes>...},
                                                 {tile_bytes<R + 1, Weights::kNibbles>...},
                                                 {tile_bytes<R + 1, Weights::kLevels>...},
                                                 {tile_bytes<R + 1, Weights::kLevels>...}};
  wide = wide && weights == Weights::kBytes;
  return {sizeof...(R), wide ? words : tiles[static_cast<size_t>(weights)], wide};
}

}  // namespace

TileKernel tiles_avx512(Weights weights, bool wide) {
  return kernel(weights, wide, std::make_index_sequence<kMaxTileRows>());
}

}  // namespace infrs

INFRS_AVX512_END
