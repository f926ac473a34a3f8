#include "norm.h"

#include <cmath>

#include "../base/simd.h"

namespace infrs {

void add_and_normalise(const float* x, const float* skip, const float* gamma, float epsilon, size_t rows, size_t width,
                       float* y, float* sum, const Parallel& parallel) {
  if (!rows) return;
  constexpr size_t kPartElements = 1 << 14;
  parallel(rows, kPartElements / width, [&](size_t first, size_t last) {
    for (size_t row = first; row < last; ++row) {
      const size_t start = row * width;
      const size_t whole = width / kLanes * kLanes;
      __m256 squares = _mm256_setzero_ps();
      for (size_t i = 0; i < whole; i += kLanes) {
        const __m256 both = _mm256_add_ps(_mm256_loadu_ps(x + start + i), _mm256_loadu_ps(skip + start + i));
        _mm256_storeu_ps(y + start + i, both);
        squares = _mm256_fmadd_ps(both, both, squares);
      }
      float total = sum_lanes(squares);
      for (size_t i = whole; i < width; ++i) {
        const float both = x[start + i] + skip[start + i];
        y[start + i] = both;
        total += both * both;
      }
      const float factor = 1.0f / std::sqrt(total / static_cast<float>(width) + epsilon);
      const __m256 factors = _mm256_set1_ps(factor);
      for (size_t i = 0; i < whole; i += kLanes) {
        const __m256 both = _mm256_loadu_ps(y + start + i);
        if (sum) _mm256_storeu_ps(sum + start + i, both);
        _mm256_storeu_ps(y + start + i, _mm256_mul_ps(_mm256_mul_ps(both, factors), _mm256_loadu_ps(gamma + i)));
      }
      for (size_t i = whole; i < width; ++i) {
        const float both = y[start + i];
        if (sum) sum[start + i] = both;
        y[start + i] = both * factor * gamma[i];
      }
    }
  });
}

}  // namespace infrs
