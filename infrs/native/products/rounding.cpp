#include "rounding.h"

#include "../base/simd.h"
#include "tiles.h"

namespace infrs {
namespace {

// Returns the largest magnitudes as the bits of floats. The bits of NaN are larger than those of infinity, so NaN is
// never lost.
inline __m256i larger(__m256i bits, __m256 x) {
  return _mm256_max_epi32(bits, _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff)));
}

inline float magnitude(__m256i bits) {
  __m128i x = _mm_max_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4e));
  x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(x));
}

// Returns levels / largest, or 0 if the quotient could overflow. Such small inputs count as zeros.
inline float inverse(float largest, float levels) { return largest > 1e-33f ? levels / largest : 0.0f; }

// Rounds x [rows, inputs] to int16 with one scale per row.
void round_wide(const float* x, size_t rows, size_t inputs, uint32_t* words, float* scales) {
  for (size_t row = 0; row < rows; ++row, x += inputs) {
    __m256i bits = _mm256_setzero_si256();
    for (size_t k = 0; k < inputs; k += kLanes) bits = larger(bits, _mm256_loadu_ps(x + k));
    const float largest = magnitude(bits);
    const __m256 factor = _mm256_set1_ps(inverse(largest, 32767.0f));
    uint32_t* target = words + row;
    for (size_t k = 0; k < inputs; k += 2 * kLanes) {
      const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + k), factor));
      const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + k + kLanes), factor));
      target = put_words(_mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8), rows, target);
    }
    scales[row] = largest / 32767.0f;
  }
}

// Rounds x [rows, inputs] to int8 with one scale and one start per block. zero: the weight level that represents 0.
void round_narrow(const float* x, size_t rows, size_t inputs, uint32_t zero, uint32_t* words, float* scales,
                  int32_t* starts) {
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (size_t row = 0; row < rows; ++row) {
    uint32_t* target = words + row;
    for (size_t place = row; place < rows * (inputs / kBlock); place += rows, x += kBlock) {
      __m256 part[4];
      __m256i bits = _mm256_setzero_si256();
      for (size_t i = 0; i < 4; ++i) {
        part[i] = _mm256_loadu_ps(x + kLanes * i);
        bits = larger(bits, part[i]);
      }
      const float largest = magnitude(bits);
      const __m256 factor = _mm256_set1_ps(inverse(largest, 127.0f));
      __m256i level[4];
      for (size_t i = 0; i < 4; ++i) level[i] = _mm256_cvtps_epi32(_mm256_mul_ps(part[i], factor));
      const __m256i packed =
          _mm256_packs_epi16(_mm256_packs_epi32(level[0], level[1]), _mm256_packs_epi32(level[2], level[3]));
      target = put_words(_mm256_permutevar8x32_epi32(packed, order), rows, target);
      const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(level[0], level[1]), _mm256_add_epi32(level[2], level[3]));
      alignas(32) int32_t lanes[kLanes];
      _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
      uint32_t total = 0;  // may wrap if inputs are not finite; their scale is then not finite either
      for (int32_t lane : lanes) total += static_cast<uint32_t>(lane);
      scales[place] = largest / 127.0f;
      starts[place] = static_cast<int32_t>(0 - zero * total);
    }
  }
}

// Copies rows [height] of `width` numbers each, which lie apart, into [width, height].
template <typename T>
void interleave(const T* source, size_t width, const size_t* rows, size_t height, T* target) {
  for (size_t r = 0; r < height; ++r) {
    const T* row = source + rows[r] * width;
    for (size_t i = 0; i < width; ++i) target[i * height + r] = row[i];
  }
}

}  // namespace

void RoundedRows::resize(const RoundedForm& form, size_t rows) {
  form_ = form;
  row_words_ = form.inputs / (form.wide ? 2 : 4);
  row_scales_ = form.wide ? 1 : form.inputs / kBlock;
  words_.resize(rows * row_words_);
  scales_.resize(rows * row_scales_);
  starts_.resize(form.wide ? 0 : rows * row_scales_);
}

void RoundedRows::round(const float* x, size_t first, size_t count) {
  uint32_t* words = words_.data() + first * row_words_;
  float* scales = scales_.data() + first * row_scales_;
  if (form_.wide) {
    round_wide(x, count, form_.inputs, words, scales);
  } else {
    round_narrow(x, count, form_.inputs, form_.zero, words, scales, starts_.data() + first * row_scales_);
  }
}

void RoundedRows::gather(const RoundedRows& other, const size_t* rows, size_t first, size_t count) {
  interleave(other.words_.data(), row_words_, rows, count, words_.data() + first * row_words_);
  interleave(other.scales_.data(), row_scales_, rows, count, scales_.data() + first * row_scales_);
  if (!form_.wide) interleave(other.starts_.data(), row_scales_, rows, count, starts_.data() + first * row_scales_);
}

RoundedTile RoundedRows::tile(size_t first, size_t count) const {
  return {count, words_.data() + first * row_words_, scales_.data() + first * row_scales_,
          form_.wide ? nullptr : starts_.data() + first * row_scales_};
}

}  // namespace infrs
