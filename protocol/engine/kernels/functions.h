/* exp, log, tanh and the like: fixed formulas over + - * / fused and comparisons, a vector at a time. */
#pragma once
#ifdef ONE_BLOCK /* of a GPU, trains one network */
#include "gradients_cuda.h"
#else
#include "rows.h"
#endif

/* One step of a polynomial in x. */
INLINE vec horner(vec sum, vec x, float next) { return fused(sum, x, all_lanes(next)); }

INLINE vec tanh_exact(vec x) {
  const float clamp = 7.90531110763549805f;
  x = larger(smaller(x, clamp), -clamp);
  vec s = x * x;
  vec p = horner(all_lanes(-2.76076847742355e-16f), s, 2.00018790482477e-13f);
  p = horner(p, s, -8.60467152213735e-11f);
  p = horner(p, s, 5.12229709037114e-08f);
  p = horner(p, s, 1.48572235717979e-05f);
  p = horner(p, s, 6.37261928875436e-04f);
  p = horner(p, s, 4.89352455891786e-03f);
  vec q = horner(all_lanes(1.19825839466702e-06f), s, 1.18534705686654e-04f);
  q = horner(q, s, 2.26843463243900e-03f);
  q = horner(q, s, 4.89352518554385e-03f);
  return (p * x) / q;
}
INLINE vec sigmoid_exact(vec x) {
  return fused(tanh_exact(x * 0.5f), all_lanes(0.5f), all_lanes(0.5f));
}
/* The derivatives by x, where y is what the function gave. */
INLINE vec slope_of_tanh(vec y) { return fused(-y, y, all_lanes(1.0f)); }
INLINE vec slope_of_sigmoid(vec y) { return fused(-y, y, y); }

/* 2^n * e^r with n = round(x / ln 2): Cody and Waite's reduction, then a polynomial (Cephes) */
INLINE vec exp_exact(vec x) {
  x = larger(smaller(x, 88.0f), -87.0f);
  vec n = horner(all_lanes(1.44269504088896341f), x, 12582912.0f) - 12582912.0f; /* rounds to an integer, ties to even */
  vec r = fused(-n, all_lanes(-2.12194440e-4f), fused(-n, all_lanes(0.693359375f), x));
  vec p = horner(all_lanes(1.9875691500e-4f), r, 1.3981999507e-3f);
  p = horner(p, r, 8.3334519073e-3f);
  p = horner(p, r, 4.1665795894e-2f);
  p = horner(p, r, 1.6666665459e-1f);
  p = horner(p, r, 5.0000001201e-1f);
  vec y = fused(p, r * r, r) + 1.0f;
  return y * from_bits((to_int(n) + 127) << 23);
}

/* For normal x > 0: x = m * 2^e with m in [sqrt(1/2), sqrt(2)), then a polynomial in m - 1 (Cephes) */
INLINE vec log_exact(vec x) {
  ivec bits = bits_of(x);
  vec m = from_bits((bits & 0x007fffff) | 0x3f000000);
  vec e = to_float((bits >> 23) - 126);
  ivec low = m < 0.707106781186547524f;
  e = where(low, e - 1.0f, e);
  m = where(low, (m + m) - 1.0f, m - 1.0f);
  vec z = m * m;
  vec p = horner(all_lanes(7.0376836292e-2f), m, -1.1514610310e-1f);
  p = horner(p, m, 1.1676998740e-1f);
  p = horner(p, m, -1.2420140846e-1f);
  p = horner(p, m, 1.4249322787e-1f);
  p = horner(p, m, -1.6668057665e-1f);
  p = horner(p, m, 2.0000714765e-1f);
  p = horner(p, m, -2.4999993993e-1f);
  p = horner(p, m, 3.3333331174e-1f);
  vec y = fused(e, all_lanes(-2.12194440e-4f), (p * m) * z);
  y = fused(-z, all_lanes(0.5f), y);
  return fused(e, all_lanes(0.693359375f), m + y);
}
