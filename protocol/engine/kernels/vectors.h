/* Vectors of lanes on this processor, and the one operation that C does not spell for them: a * b + c, rounded once.

   How wide a vector is changes the speed and never a bit: an operation is one for each lane. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define VW 16
#elif defined(__AVX__)
#include <immintrin.h>
#define VW 8
#else
#define VW 4
#endif
#if defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#endif

typedef float vec __attribute__((vector_size(4 * VW), may_alias));
typedef float loose_vec __attribute__((vector_size(4 * VW), may_alias, aligned(4)));
typedef int32_t ivec __attribute__((vector_size(4 * VW), may_alias));

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
/* SHUFFLE(a, b, lane, ...): the named lanes of a, and from VW on of b */
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif
#define INLINE static inline __attribute__((always_inline))

#include "fused.h"

INLINE vec fused(vec a, vec b, vec c) {
#if VW == 16
  return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif VW == 8 && defined(__FMA__)
  return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__) && defined(__ARM_NEON)
  return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  vec r;
  for (int l = 0; l < VW; l++) r[l] = fused_one(a[l], b[l], c[l]);
  return r;
#endif
}

/* Keep a loaded vector in a register: compilers otherwise load it again for each of its uses, and loads are scarce. */
#if defined(__AVX512F__)
#define HELD(v) __asm__("" : "+v"(v))
#elif defined(__x86_64__)
#define HELD(v) __asm__("" : "+x"(v))
#else
#define HELD(v) (void)(v)
#endif

#define ZEROS ((vec){0})
#define INTS(n) ((ivec){0} + (n))
INLINE vec all_lanes(float x) { return x - ZEROS; } /* x - 0 is x, also for x = -0 */

INLINE ivec widened(const uint8_t *from) {
#if VW == 16
  return (ivec)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from));
#elif VW == 8 && defined(__AVX2__)
  return (ivec)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
#else
  ivec r;
  for (int k = 0; k < VW; k++) r[k] = from[k];
  return r;
#endif
}
