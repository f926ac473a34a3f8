#include "activation.h"

#include "../base/simd.h"

namespace infrs {

void gate(const float* x, size_t rows, size_t width, float* y, const Parallel& parallel) {
  constexpr size_t kPartElements = 1 << 14;
  parallel(rows, kPartElements / width, [&](size_t first, size_t last) {
    for (size_t row = first; row < last; ++row) {
      const float* opening = x + row * 2 * width;
      const float* value = opening + width;
      float* target = y + row * width;
      const auto gated = [](__m256 v, __m256 u) { return _mm256_mul_ps(silu_lanes(v), u); };
      size_t i = 0;
      for (; i + kLanes <= width; i += kLanes)
        _mm256_storeu_ps(target + i, gated(_mm256_loadu_ps(opening + i), _mm256_loadu_ps(value + i)));
      for (; i < width; ++i)
        target[i] = _mm256_cvtss_f32(gated(_mm256_set1_ps(opening[i]), _mm256_set1_ps(value[i])));
    }
  });
}

}  // namespace infrs
