// For files with instructions beyond AVX2. Functions between INFRS_AVX512_BEGIN and INFRS_AVX512_END are compiled for
// AVX512-VNNI, those after INFRS_AVX512_BF16_BEGIN for AVX512-BF16, and those after INFRS_AVX_VNNI_BEGIN for AVX-VNNI,
// which older compilers do not know. They are called only if the processor has it. These files must not use inline
// functions of other headers: the linker might keep a copy of such a function that other processors cannot run.
#pragma once

#include <immintrin.h>

#if defined(__clang__)
#define INFRS_AVX512_BEGIN \
  _Pragma("clang attribute push(__attribute__((target(\"avx512f,avx512bw,avx512vl,avx512vnni\"))),apply_to=function)")
#define INFRS_AVX512_BF16_BEGIN \
  _Pragma("clang attribute push(__attribute__((target(\"avx512f,avx512bw,avx512vl,avx512bf16\"))),apply_to=function)")
#if __clang_major__ >= 12
#define INFRS_AVX_VNNI_BEGIN \
  _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,f16c,avxvnni\"))),apply_to=function)")
#endif
#define INFRS_AVX512_END _Pragma("clang attribute pop")
#define INFRS_UNROLL_ALL _Pragma("clang loop unroll(full)")
#else
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // a false warning in GCC's own header
#define INFRS_AVX512_BEGIN \
  _Pragma("GCC push_options") _Pragma("GCC target(\"avx512f,avx512bw,avx512vl,avx512vnni\")")
#define INFRS_AVX512_BF16_BEGIN \
  _Pragma("GCC push_options") _Pragma("GCC target(\"avx512f,avx512bw,avx512vl,avx512bf16\")")
#if __GNUC__ >= 11
#define INFRS_AVX_VNNI_BEGIN _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma,f16c,avxvnni\")")
#endif
#define INFRS_AVX512_END _Pragma("GCC pop_options")
#define INFRS_UNROLL_ALL _Pragma("GCC unroll 16")
#endif
