#include "recurrence.h"

#include <algorithm>

#include "../base/simd.h"

namespace infrs {
namespace {

// Returns log(1 + e**x). With t = e**-|x| and z = t / (2 + t), which is at most a third, log(1 + t) is
// 2 artanh(z) = 2 z (1 + z**2 / 3 + z**4 / 5 + ...), and max(x, 0) is the rest. NaN stays NaN.
inline __m256 softplus_lanes(__m256 x) {
  const __m256 t = exp_lanes(_mm256_or_ps(x, _mm256_set1_ps(-0.0f)));
  const __m256 z = _mm256_div_ps(t, _mm256_add_ps(t, _mm256_set1_ps(2.0f))), square = _mm256_mul_ps(z, z);
  __m256 sum = _mm256_set1_ps(2.0f / 15);
  for (const float term : {2.0f / 13, 2.0f / 11, 2.0f / 9, 2.0f / 7, 2.0f / 5, 2.0f / 3, 2.0f})
    sum = _mm256_fmadd_ps(sum, square, _mm256_set1_ps(term));
  return _mm256_fmadd_ps(sum, z, _mm256_max_ps(_mm256_setzero_ps(), x));
}

// Calls `work(first, lanes)` for vectors of eight numbers. The last one may have fewer.
template <typename Work>
void for_lanes(size_t count, const Work& work) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) work(i, kLanes);
  if (i < count) work(i, count - i);
}

inline __m256 load_lanes(const float* x, size_t lanes) {
  if (lanes == kLanes) return _mm256_loadu_ps(x);
  float some[kLanes] = {};
  std::copy_n(x, lanes, some);
  return _mm256_loadu_ps(some);
}

inline void store_lanes(float* x, __m256 y, size_t lanes) {
  if (lanes == kLanes) return _mm256_storeu_ps(x, y);
  float some[kLanes];
  _mm256_storeu_ps(some, y);
  std::copy_n(some, lanes, x);
}

// Convolves the channels [begin, end) of one row.
void convolve_channels(const ShortConvolutionRun& run, size_t row, size_t begin, size_t end) {
  const size_t before = run.width - 1, channels = run.channels, count = end - begin;
  const float* x = run.x + row * run.tokens * channels + begin;
  float* state = run.state + row * before * channels + begin;
  // The input `place` of the row: first those of the state, then x.
  const auto input = [&](size_t place) {
    return place < before ? state + place * channels : x + (place - before) * channels;
  };
  for (size_t token = 0; token < run.tokens; ++token) {
    float* output = run.output + (row * run.tokens + token) * channels + begin;
    for_lanes(count, [&](size_t i, size_t lanes) {
      __m256 sum = run.bias ? load_lanes(run.bias + begin + i, lanes) : _mm256_setzero_ps();
      for (size_t tap = 0; tap < run.width; ++tap) {
        const __m256 weight = load_lanes(run.weight + tap * channels + begin + i, lanes);
        sum = _mm256_fmadd_ps(weight, load_lanes(input(token + tap) + i, lanes), sum);
      }
      store_lanes(output + i, run.silu ? silu_lanes(sum) : sum, lanes);
    });
  }
  if (run.active[row] == 0) return;
  for (size_t slot = 0; slot < before; ++slot)  // the last inputs; no slot needs one before it
    std::copy_n(input(slot + run.tokens), count, state + slot * channels);
}

}  // namespace

void convolve(const ShortConvolutionRun& run, const Parallel& parallel) {
  constexpr size_t kChannels = 512, kPartWork = 1 << 14;  // kChannels: of a unit of work
  const size_t blocks = (run.channels + kChannels - 1) / kChannels;
  const size_t unit_work = run.tokens * run.width * std::min(kChannels, run.channels);
  parallel(run.rows * blocks, kPartWork / unit_work, [&](size_t first, size_t last) {
    for (size_t unit = first; unit < last; ++unit) {
      const size_t begin = unit % blocks * kChannels;
      convolve_channels(run, unit / blocks, begin, std::min(begin + kChannels, run.channels));
    }
  });
}

void softplus(const float* x, size_t count, float* y) {
  for_lanes(count, [&](size_t i, size_t lanes) {
    store_lanes(y + i, softplus_lanes(load_lanes(x + i, lanes)), lanes);
  });
}

}  // namespace infrs
