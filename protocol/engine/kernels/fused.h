/* a * b + c in binary32, rounded once: by the processor where it can, else in binary64. The same bits. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Whether the processor that this is compiled for fuses by itself. Every other one computes the same bits, slowly. */
#if defined(__FMA__) || defined(__AVX512F__) || defined(__FP_FAST_FMAF) || defined(__aarch64__)
#define FUSES 1
#else
#define FUSES 0
#endif

#if FUSES
INLINE float fused_one(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#else
/* The product is exact in binary64. Where the sum is not, it takes the neighbour with an odd last bit, which says on
   which side of everything shorter the exact sum lies, so that rounding it again is right. */
static __attribute__((noinline)) float fused_one(float a, float b, float c) {
  double product = (double)a * (double)b, total = product + (double)c, part = total - product;
  double error = (product - (total - part)) + ((double)c - part);
  int64_t bits;
  memcpy(&bits, &total, sizeof bits);
  int64_t inexact = (error < 0) | (error > 0); /* not so where it is NaN, because `total` is infinite */
  int64_t towards = 1 - 2 * (int64_t)((error > 0) != (total > 0));
  bits += towards & -(inexact & ~bits & 1);
  memcpy(&total, &bits, sizeof total);
  return (float)total;
}
#endif
