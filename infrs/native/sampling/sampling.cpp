#include "sampling.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "logarithm.h"

namespace infrs {
namespace {

constexpr size_t kDoubles = 4;

}  // namespace

double weigh_logarithms(const float* weights, size_t count, double* sums) {
  __m256d weighted = _mm256_setzero_pd();
  for (size_t block = 0; block < count; block += kSumBlock) {
    const size_t end = std::min(block + kSumBlock, count);
    __m256d sum = _mm256_setzero_pd();
    const auto add = [&](const float* four) {
      const __m128 x = _mm_loadu_ps(four);
      const __m256d weight = _mm256_cvtps_pd(x);
      sum = _mm256_add_pd(sum, weight);
      weighted = _mm256_fmadd_pd(weight, log_lanes(x), weighted);
    };
    size_t i = block;
    for (; i + kDoubles <= end; i += kDoubles) add(weights + i);
    float rest[kDoubles] = {};
    std::memcpy(rest, weights + i, (end - i) * sizeof(float));
    add(rest);
    sums[block / kSumBlock] = sum_lanes(sum);
  }
  return sum_lanes(weighted);
}

}  // namespace infrs
