#include "matmul.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <vector>

#include "simd.h"

namespace infrs {
namespace {

constexpr size_t kRowChunk = 48;       // the rounded inputs of so many rows stay in the L2 cache
constexpr size_t kPartWork = 1 << 15;  // multiply-adds that pay for waking a thread

// Rows rounded to integers, in the layout of TileInput, tile by tile. 16-bit rows have one scale each. 8-bit rows have
// one scale per block and the initial value of its sums.
struct RoundedRows {
  std::vector<uint32_t> words;
  std::vector<float> scales;
  std::vector<int32_t> starts;
};

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

// Returns the power of two that scales the largest value to just below 2**15, which fits a half.
float unit_of(const float* scales, size_t count) {
  float largest = 0;
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(scales[i])) throw std::invalid_argument("scales that are not finite");
    largest = std::max(largest, std::fabs(scales[i]));
  }
  int exponent = 0;
  std::frexp(largest, &exponent);
  return std::ldexp(1.0f, std::max(exponent, -100) - 15);
}

std::vector<float> to_floats(const uint16_t* halves, size_t count) {
  std::vector<float> floats(count);
  for (size_t i = 0; i < count; ++i) floats[i] = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(halves[i])));
  return floats;
}

uint16_t to_half(float value) {
  return static_cast<uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(value), _MM_FROUND_TO_NEAREST_INT)));
}

}  // namespace

void PackedMatrix::Free::operator()(uint8_t* data) const { std::free(data); }

PackedMatrix::PackedMatrix(const uint8_t* values, const uint16_t* scales, size_t outputs, size_t inputs, int bits,
                           const TileKernel& kernel)
    : PackedMatrix(values, to_floats(scales, outputs * inputs / kBlock).data(), outputs, inputs, bits, kernel) {}

PackedMatrix::PackedMatrix(const uint8_t* values, const float* scales, size_t outputs, size_t inputs, int bits,
                           const TileKernel& kernel)
    : kernel_(kernel), outputs_(outputs), inputs_(inputs), blocks_(inputs / kBlock), bits_(bits),
      block_bytes_(kScaleBytes + kColumns * kBlock * bits / 8) {
  const size_t size = groups() * blocks_ * block_bytes_;
  data_.reset(static_cast<uint8_t*>(std::aligned_alloc(64, (size + 63) / 64 * 64)));
  if (!data_) throw std::bad_alloc();
  std::memset(data_.get(), 0, size);
  unit_ = unit_of(scales, outputs * blocks_);
  const size_t value_bytes = kBlock * bits / 8;
  for (size_t column = 0; column < outputs; ++column) {
    const size_t lane = column % kColumns;
    for (size_t block = 0; block < blocks_; ++block) {
      uint8_t* target = data_.get() + (column / kColumns * blocks_ + block) * block_bytes_;
      const uint16_t half = to_half(scales[column * blocks_ + block] / unit_);
      std::memcpy(target + lane * sizeof half, &half, sizeof half);
      target += kScaleBytes;
      const uint8_t* source = values + (column * blocks_ + block) * value_bytes;
      if (kernel.wide) {
        for (size_t k = 0; k < kBlock; ++k)
          target[k / 2 * 2 * kColumns + lane * 2 + k % 2] = static_cast<uint8_t>(source[k] - 128);
      } else if (bits == 8) {
        for (size_t k = 0; k < kBlock; ++k) target[k / 4 * 4 * kColumns + lane * 4 + k % 4] = source[k];
      } else {
        // The low four bits of the bytes of step s hold inputs 8s to 8s+3, the high four bits inputs 8s+4 to 8s+7.
        for (size_t k = 0; k < kBlock; ++k) {
          const uint8_t level = source[k / 2] >> (k % 2 * 4) & 15;
          target[k / 8 * 4 * kColumns + lane * 4 + k % 4] |= static_cast<uint8_t>(level << (k % 8 / 4 * 4));
        }
      }
    }
  }
}

void PackedMatrix::multiply(const float* x, size_t rows, const float* bias, float* y, const Parallel& parallel) const {
  if (!rows) return;
  const bool wide = kernel_.wide;
  const size_t row_words = inputs_ / (wide ? 2 : 4), row_scales = wide ? 1 : blocks_;
  static thread_local RoundedRows rounded;
  rounded.words.resize(rows * row_words);
  rounded.scales.resize(rows * row_scales);
  rounded.starts.resize(wide ? 0 : rows * blocks_);
  RoundedRows& buffers = rounded;  // workers use the buffers of the calling thread, not their own
  const size_t tiles = (rows + kernel_.max_rows - 1) / kernel_.max_rows;
  const auto first_row = [&](size_t tile) { return rows * tile / tiles; };
  parallel(tiles, std::max<size_t>(1, kPartWork / (inputs_ * kernel_.max_rows)), [&](size_t first, size_t last) {
    for (size_t tile = first; tile < last; ++tile) {
      const size_t row = first_row(tile), count = first_row(tile + 1) - row;
      const float* source = x + row * inputs_;
      uint32_t* words = buffers.words.data() + row * row_words;
      if (wide) {
        round_wide(source, count, inputs_, words, buffers.scales.data() + row);
      } else {
        round_narrow(source, count, inputs_, 1u << (bits_ - 1), words, buffers.scales.data() + row * blocks_,
                     buffers.starts.data() + row * blocks_);
      }
    }
  });

  // Computes sixteen outputs of the rows of a tile. ahead: also prefetch the weights of the next group.
  const auto multiply_tile = [&](size_t group, size_t tile, bool ahead) {
    float out[kMaxTileRows][kColumns];
    const size_t row = first_row(tile), count = first_row(tile + 1) - row, group_bytes = blocks_ * block_bytes_;
    TileInput input{};
    input.weights = data_.get() + group * group_bytes;
    input.ahead = ahead ? group_bytes : 0;
    input.blocks = blocks_;
    input.words = reinterpret_cast<const uint8_t*>(buffers.words.data() + row * row_words);
    if (!wide) input.scales = buffers.scales.data() + row * blocks_;
    if (!wide) input.starts = buffers.starts.data() + row * blocks_;
    kernel_.tiles[count - 1](input, out);
    const size_t column = group * kColumns, end = std::min(kColumns, outputs_ - column);
    for (size_t r = 0; r < count; ++r) {
      const float scale = wide ? buffers.scales[row + r] * unit_ : unit_;
      float* target = y + (row + r) * outputs_ + column;
      for (size_t i = 0; i < end; ++i) target[i] = out[r][i] * scale + (bias ? bias[column + i] : 0.0f);
    }
  };
  const size_t chunk_tiles = kRowChunk / kernel_.max_rows, chunks = (tiles + chunk_tiles - 1) / chunk_tiles;
  const size_t item_work = inputs_ * kColumns * std::min(rows, kRowChunk);
  parallel(chunks * groups(), std::max<size_t>(1, kPartWork / item_work), [&](size_t first, size_t last) {
    for (size_t item = first; item < last; ++item) {
      const size_t group = item % groups(), begin = item / groups() * chunk_tiles;
      for (size_t tile = begin; tile < std::min(tiles, begin + chunk_tiles); ++tile)
        multiply_tile(group, tile, tile == begin && group + 1 < groups());
    }
  });
}

}  // namespace infrs
