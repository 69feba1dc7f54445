/* Vectors of lanes, and the sums and functions over them that exact-1 is made of.

   A value is 16 floats, one a lane. How many lanes a vector holds (VW), how many outputs are computed together (ROWS) and
   how large a tile of a weight gradient is held in registers change the speed and never an operation or its order. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#if defined(__AVX512F__)
#define VW 16
#define TILE_ROWS 4
#define TILE_COLUMNS 4
#elif defined(__AVX__)
#define VW 8
#define TILE_ROWS 4
#define TILE_COLUMNS 2
#else
#define VW 4
#define TILE_ROWS 4
#define TILE_COLUMNS 2
#endif
#define ROWS 12 /* outputs computed together: accumulators held in registers */

typedef float vec __attribute__((vector_size(4 * VW), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * VW), may_alias));

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

/* ---- sums over inputs: each output is one chain, inputs rising ---- */

typedef struct { /* output j adds weight[j * row + i * column] * value[i] */
  const float *weight, *value;
  int64_t row, column;
  int n;
} Terms;

enum Start { ZERO, BIAS, MEMORY }; /* what a chain starts from: 0, bias[j], or what `out` holds */

INLINE void chain_rows(int rows, enum Start start, const float *bias, Terms a, Terms b, float *out) {
  vec sum[ROWS];
  UNROLL for (int j = 0; j < rows; j++) {
    if (start == ZERO) sum[j] = (vec){0};
    if (start == BIAS) sum[j] = bias[j] - (vec){0}; /* x - 0 is x, also for x = -0 */
    if (start == MEMORY) sum[j] = *(const vec *)(out + j * LANES);
  }
  for (int i = 0; i < a.n; i++) {
    vec value = *(const vec *)(a.value + i * LANES);
    UNROLL for (int j = 0; j < rows; j++) sum[j] = sum[j] + value * a.weight[j * a.row + i * a.column];
  }
  for (int i = 0; i < b.n; i++) {
    vec value = *(const vec *)(b.value + i * LANES);
    UNROLL for (int j = 0; j < rows; j++) sum[j] = sum[j] + value * b.weight[j * b.row + i * b.column];
  }
  UNROLL for (int j = 0; j < rows; j++) *(vec *)(out + j * LANES) = sum[j];
}

INLINE Terms shifted(Terms t, int64_t row, int lane) {
  t.weight += row * t.row;
  t.value += lane;
  return t;
}

/* out[j] = start + terms of a + terms of b, for all outputs and lanes */
INLINE void chains(int outputs, enum Start start, const float *bias, Terms a, Terms b, float *out) {
  for (int lane = 0; lane < LANES; lane += VW) {
    int j = 0;
    for (; j + ROWS <= outputs; j += ROWS)
      chain_rows(ROWS, start, bias + j, shifted(a, j, lane), shifted(b, j, lane), out + j * LANES + lane);
    for (; j + 4 <= outputs; j += 4)
      chain_rows(4, start, bias + j, shifted(a, j, lane), shifted(b, j, lane), out + j * LANES + lane);
    for (; j < outputs; j++)
      chain_rows(1, start, bias + j, shifted(a, j, lane), shifted(b, j, lane), out + j * LANES + lane);
  }
}

static const Terms none = {0};

static void chains_from_bias(int outputs, const float *bias, Terms a, Terms b, float *out) {
  chains(outputs, BIAS, bias, a, b, out);
}
static void chains_from_zero(int outputs, Terms a, float *out) { chains(outputs, ZERO, out, a, none, out); }
static void chains_onto(int outputs, Terms a, Terms b, float *out) { chains(outputs, MEMORY, out, a, b, out); }

static Terms weights(const float *weight, int inputs, const float *value) {
  return (Terms){weight, value, inputs, 1, inputs};
}
static Terms transposed(const float *weight, int inputs, int outputs, const float *delta) {
  return (Terms){weight, delta, 1, inputs, outputs};
}

/* ---- sums over lanes and time: weight gradients ---- */

#define LOW(k, h) ((k) / (h) * 2 * (h) + (k) % (h))
#if VW == 16
#define EACH(f, h) {f(0, h), f(1, h), f(2, h), f(3, h), f(4, h), f(5, h), f(6, h), f(7, h), f(8, h), f(9, h), f(10, h), f(11, h), f(12, h), f(13, h), f(14, h), f(15, h)}
#elif VW == 8
#define EACH(f, h) {f(0, h), f(1, h), f(2, h), f(3, h), f(4, h), f(5, h), f(6, h), f(7, h)}
#else
#define EACH(f, h) {f(0, h), f(1, h), f(2, h), f(3, h)}
#endif
#define HIGH(k, h) (LOW(k, h) + (h))

/* One level of the tree for two vectors of runs of 2h lanes: lane l + lane (l + h) of every run, runs kept in order. */
#if defined(__clang__)
INLINE vec fold(vec a, vec b, int h) {
  float both[2 * VW], out[VW];
  memcpy(both, &a, sizeof a);
  memcpy(both + VW, &b, sizeof b);
  UNROLL for (int k = 0; k < VW; k++) out[k] = both[LOW(k, h)] + both[HIGH(k, h)];
  vec result;
  memcpy(&result, out, sizeof result);
  return result;
}
#define FOLD(a, b, h) fold(a, b, h)
#else
#define FOLD(a, b, h) \
  (__builtin_shuffle(a, b, (ivec)EACH(LOW, h)) + __builtin_shuffle(a, b, (ivec)EACH(HIGH, h)))
#endif

/* The sum over 16 lanes by the fixed tree l + (l+8), l + (l+4), l + (l+2), l + (l+1), of VW sums at once. */
INLINE vec tree(const float *sums) {
  vec v[VW];
  UNROLL for (int k = 0; k < VW; k++) {
    const vec *part = (const vec *)(sums + k * LANES);
#if VW == 16
    v[k] = part[0];
#elif VW == 8
    v[k] = part[0] + part[1];
#else
    v[k] = (part[0] + part[2]) + (part[1] + part[3]);
#endif
  }
#if VW == 16
  UNROLL for (int k = 0; k < 8; k++) v[k] = FOLD(v[2 * k], v[2 * k + 1], 8);
#endif
#if VW >= 8
  UNROLL for (int k = 0; k < 4; k++) v[k] = FOLD(v[2 * k], v[2 * k + 1], 4);
  UNROLL for (int k = 0; k < 2; k++) v[k] = FOLD(v[2 * k], v[2 * k + 1], 2);
#else
  UNROLL for (int k = 0; k < 2; k++) v[k] = FOLD(v[2 * k], v[2 * k + 1], 2);
#endif
  return FOLD(v[0], v[1], 1);
}

/* gradient[k] += tree of sums[k]; `sums` has room for a whole vector of sums behind the last */
static void add_trees(float *gradient, float *sums, int count) {
  for (int k = 0; k < count; k += VW) {
    vec add = tree(sums + (int64_t)k * LANES);
    int rest = count - k < VW ? count - k : VW;
    for (int q = 0; q < rest; q++) gradient[k + q] = gradient[k + q] + add[q];
  }
}

INLINE void outer_tile(int rows, int columns, const float *delta, int64_t delta_step, const float *value,
                       int64_t value_step, int length, float *sums, int row_stride) {
  vec sum[TILE_ROWS][TILE_COLUMNS];
  UNROLL for (int j = 0; j < rows; j++) UNROLL for (int i = 0; i < columns; i++) sum[j][i] = (vec){0};
  for (int t = 0; t < length; t++) {
    vec v[TILE_COLUMNS];
    UNROLL for (int i = 0; i < columns; i++) v[i] = *(const vec *)(value + t * value_step + i * LANES);
    UNROLL for (int j = 0; j < rows; j++) {
      vec d = *(const vec *)(delta + t * delta_step + j * LANES);
      UNROLL for (int i = 0; i < columns; i++) sum[j][i] = sum[j][i] + d * v[i];
    }
  }
  UNROLL for (int j = 0; j < rows; j++) UNROLL for (int i = 0; i < columns; i++)
    *(vec *)(sums + (j * row_stride + i) * LANES) = sum[j][i];
}

INLINE void outer_rows(int rows, const float *delta, int64_t delta_step, const float *value, int64_t value_step,
                       int inputs, int length, float *sums) {
  for (int lane = 0; lane < LANES; lane += VW) {
    const float *d = delta + lane, *v = value + lane;
    float *s = sums + lane;
    int i = 0;
    for (; i + TILE_COLUMNS <= inputs; i += TILE_COLUMNS)
      outer_tile(rows, TILE_COLUMNS, d, delta_step, v + i * LANES, value_step, length, s + i * LANES, inputs);
    for (; i < inputs; i++) outer_tile(rows, 1, d, delta_step, v + i * LANES, value_step, length, s + i * LANES, inputs);
  }
}

/* gradient[j][i] += over lanes, over time rising, delta[t][j] * value[t][i] */
static void outer(float *gradient, float *sums, const float *delta, int64_t delta_step, int outputs, const float *value,
                  int64_t value_step, int inputs, int length) {
  int j = 0;
  for (; j + TILE_ROWS <= outputs; j += TILE_ROWS) {
    outer_rows(TILE_ROWS, delta + j * LANES, delta_step, value, value_step, inputs, length, sums);
    add_trees(gradient + (int64_t)j * inputs, sums, TILE_ROWS * inputs);
  }
  for (; j < outputs; j++) {
    outer_rows(1, delta + j * LANES, delta_step, value, value_step, inputs, length, sums);
    add_trees(gradient + (int64_t)j * inputs, sums, inputs);
  }
}

/* gradient[j] += over lanes, over time rising, delta[t][j] */
static void over_time(float *gradient, float *sums, const float *delta, int64_t delta_step, int outputs, int length) {
  for (int k = 0; k < outputs * LANES; k += VW) {
    vec sum = (vec){0};
    for (int t = 0; t < length; t++) sum = sum + *(const vec *)(delta + t * delta_step + k);
    *(vec *)(sums + k) = sum;
  }
  add_trees(gradient, sums, outputs);
}

/* ---- elementwise ---- */

INLINE vec smaller(vec a, float b) {
  vec r;
  UNROLL for (int l = 0; l < VW; l++) r[l] = a[l] < b ? a[l] : b;
  return r;
}
INLINE vec larger(vec a, float b) {
  vec r;
  UNROLL for (int l = 0; l < VW; l++) r[l] = a[l] > b ? a[l] : b;
  return r;
}
INLINE vec where_positive(vec condition, vec value) { return (vec)((condition > 0) & (ivec)value); }

INLINE vec tanh_exact(vec x) {
  const float clamp = 7.90531110763549805f;
  x = larger(smaller(x, clamp), -clamp);
  vec s = x * x;
  vec p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  vec q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return (p * x) / q;
}
INLINE vec sigmoid_exact(vec x) { return tanh_exact(x * 0.5f) * 0.5f + 0.5f; }
