// Tiles on AVX512-VNNI: an instruction multiplies and adds 16-bit pairs, or quadruples of bytes, for sixteen outputs.
// The only file with instructions beyond AVX2: its functions are compiled for them one by one, and called where the
// processor has them.
#include <immintrin.h>

#include <cstring>
#include <utility>

#include "tiles.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))), apply_to = function)
#define INFRS_UNROLL _Pragma("clang loop unroll(full)")
#else
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in GCC's own header
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni")
#define INFRS_UNROLL _Pragma("GCC unroll 16")
#endif

namespace infrs {
namespace {


// Few rows take several sums each, or the additions would wait for one another.
template <size_t R>
constexpr size_t kSums = R == 1 ? 4 : R <= 3 ? 2 : 1;

inline __m512i broadcast_32_bits(const void* address) {
  int32_t bits;
  std::memcpy(&bits, address, sizeof bits);
  return _mm512_set1_epi32(bits);
}

// Keeps the compiler from loading every row's inputs first, which spills the sums.
inline void keep_in_register(__m512i& sum) { asm("" : "+v"(sum)); }

inline void prefetch(const uint8_t* weights) { _mm_prefetch(reinterpret_cast<const char*>(weights), _MM_HINT_T0); }

inline __m512 scales_of(const uint8_t* block) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(block)));
}

template <size_t N>
inline __m512i added(const __m512i (&sums)[N]) {
  __m512i total = sums[0];
  INFRS_UNROLL
  for (size_t i = 1; i < N; ++i) total = _mm512_add_epi32(total, sums[i]);
  return total;
}

// The totals live in memory: the registers are for a block's sums.
inline void add_scaled(float* total, __m512i sum, __m512 scale) {
  _mm512_storeu_ps(total, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, _mm512_loadu_ps(total)));
}

template <size_t R>
void tile_8_bits(const TileInput& input, float (*y)[kColumns]) {
  const size_t ahead = input.ahead;
  const uint8_t* weights = input.weights;
  const uint8_t* words = input.words;
  std::memset(y, 0, R * sizeof *y);
  for (size_t block = 0; block < input.blocks; ++block) {
    const __m512 scale = scales_of(weights);
    weights += kScaleBytes;
    __m512i sum[R][kSums<R>] = {};
    INFRS_UNROLL
    for (size_t pair = 0; pair < kBlock / 2; ++pair, weights += 2 * kColumns, words += 4 * R) {
      if (pair % 2 == 0) prefetch(weights + ahead);
      const __m512i weight = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights)));
      INFRS_UNROLL
      for (size_t r = 0; r < R; ++r) {
        __m512i& into = sum[r][pair % kSums<R>];
        into = _mm512_dpwssd_epi32(into, weight, broadcast_32_bits(words + 4 * r));
        keep_in_register(into);
      }
    }
    INFRS_UNROLL
    for (size_t r = 0; r < R; ++r) add_scaled(y[r], added(sum[r]), scale);
  }
}

template <size_t R>
void tile_4_bits(const TileInput& input, float (*y)[kColumns]) {
  const size_t ahead = input.ahead;
  const uint8_t* weights = input.weights;
  const uint8_t* words = input.words;
  const __m512i nibble = _mm512_set1_epi8(15);
  std::memset(y, 0, R * sizeof *y);
  for (size_t block = 0; block < input.blocks; ++block) {
    const __m512 weight_scale = scales_of(weights);
    weights += kScaleBytes;
    __m512i sum[R][kSums<R>] = {};
    INFRS_UNROLL
    for (size_t step = 0; step < kBlock / 8; ++step, weights += 4 * kColumns) {
      prefetch(weights + ahead);
      const __m512i both = _mm512_loadu_si512(weights);
      const __m512i half[2] = {_mm512_and_si512(both, nibble), _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble)};
      INFRS_UNROLL
      for (size_t i = 0; i < 2; ++i, words += 4 * R) {
        INFRS_UNROLL
        for (size_t r = 0; r < R; ++r) {
          __m512i& into = sum[r][(2 * step + i) % kSums<R>];
          into = _mm512_dpbusd_epi32(into, half[i], broadcast_32_bits(words + 4 * r));
          keep_in_register(into);
        }
      }
    }
    INFRS_UNROLL
    for (size_t r = 0; r < R; ++r) {
      const size_t place = block * R + r;
      const __m512i from_zero = _mm512_sub_epi32(added(sum[r]), _mm512_set1_epi32(input.offsets[place]));
      add_scaled(y[r], from_zero, _mm512_mul_ps(weight_scale, _mm512_set1_ps(input.scales[place])));
    }
  }
}

template <size_t... R>
TileKernel kernel(int64_t bits, std::index_sequence<R...>) {
  static constexpr Tile wide[] = {tile_8_bits<R + 1>...}, narrow[] = {tile_4_bits<R + 1>...};
  return {sizeof...(R), bits == 8 ? wide : narrow};
}

}  // namespace

TileKernel tiles_avx512(int64_t bits) { return kernel(bits, std::make_index_sequence<kMaxTileRows>()); }

}  // namespace infrs

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
