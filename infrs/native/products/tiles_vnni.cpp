// Tiles for dot products of integers in vectors of 256 bits. The instructions have two encodings: that of AVX-VNNI, for
// processors without AVX-512, and that of AVX512-VNNI.
#include <cpuid.h>

#include <cstring>
#include <utility>

#include "../base/avx512.h"
#include "tiles.h"

namespace infrs {
namespace {

constexpr size_t kMaxRows = 6;  // the sums of so many rows fit into sixteen registers

}  // namespace

bool has_avx_vnni() {
#ifdef INFRS_AVX_VNNI_BEGIN
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
#else
  return false;
#endif
}

}  // namespace infrs

#ifdef INFRS_AVX_VNNI_BEGIN
#define INFRS_DOT_BYTES _mm256_dpbusd_avx_epi32
#define INFRS_DOT_WORDS _mm256_dpwssd_avx_epi32
INFRS_AVX_VNNI_BEGIN
namespace infrs {
namespace {
namespace avx_vnni {
#include "tiles_vnni.h"
}  // namespace avx_vnni
}  // namespace
}  // namespace infrs
INFRS_AVX512_END
#undef INFRS_DOT_BYTES
#undef INFRS_DOT_WORDS
#endif

#define INFRS_DOT_BYTES _mm256_dpbusd_epi32
#define INFRS_DOT_WORDS _mm256_dpwssd_epi32
INFRS_AVX512_BEGIN
namespace infrs {
namespace {
namespace avx512_vnni {
#include "tiles_vnni.h"
}  // namespace avx512_vnni
}  // namespace
}  // namespace infrs
INFRS_AVX512_END

infrs::TileKernel infrs::tiles_vnni_256(Weights weights, bool wide) {
#ifdef INFRS_AVX_VNNI_BEGIN
  if (has_avx_vnni()) return avx_vnni::kernel(weights, wide, std::make_index_sequence<kMaxRows>());
#endif
  return avx512_vnni::kernel(weights, wide, std::make_index_sequence<kMaxRows>());
}
