/* Walking rows of lanes, choosing between vectors, and moving samples in and out of lanes: what the layers are written
   with, beside the sums of lanes.h. Here a loop is a loop; lanes_cuda.h shares each one among the threads of a block. */
#pragma once
#include "lanes.h"

#define MAKE(type) (type) /* MAKE(Side){...}: C and C++ spell a value of a struct differently */
#define APART /* lanes_cuda.h has functions that must not be inlined */

/* ---- loops; all writes of one are seen by what follows it ---- */

#define EACH_ITEM(i, count) for (int64_t i = 0; i < (count); i++)
#define EACH_VEC(k, count) for (int64_t k = 0; k < (count); k += VW)
/* Rows of `lanes` floats, and inside it, once or more, the vectors of a row. */
#define EACH_ROW(row, rows, lanes) for (int64_t row = 0; row < (rows); row++)
#define EACH_LANE(k, lanes) for (int64_t k = 0; k < (lanes); k += VW)
#define DRAWS LANES /* lanes whose random words are computed together */
#define EACH_DRAW(k, lanes) for (int64_t k = 0; k < (lanes); k += DRAWS)
#define ALONE(...) {__VA_ARGS__} /* one thread of a block writes what all share */
#define SYNC                     /* what is read above may be written below */

#define AT(p, k) (*(vec *)((p) + (k)))
#define READ(p, k) (*(const vec *)((p) + (k)))
#define READ_INT(p, k) (*(const ivec *)((p) + (k)))
#define WRITE_INT(p, k, value) (*(ivec *)((p) + (k)) = (value))

INLINE void fill_zero(float *to, int64_t floats) { memset(to, 0, sizeof(float) * floats); }
INLINE void copy_floats(float *to, const float *from, int64_t floats) { memcpy(to, from, sizeof(float) * floats); }

/* ---- choosing ---- */

INLINE vec smaller(vec a, float b) { /* x86's instruction is just this choice, NaN and zeros included */
#if VW == 16
  return (vec)_mm512_min_ps((__m512)a, (__m512)all_lanes(b));
#elif VW == 8
  return (vec)_mm256_min_ps((__m256)a, (__m256)all_lanes(b));
#endif
  vec r;
  UNROLL for (int l = 0; l < VW; l++) r[l] = a[l] < b ? a[l] : b;
  return r;
}
INLINE vec larger(vec a, float b) {
#if VW == 16
  return (vec)_mm512_max_ps((__m512)a, (__m512)all_lanes(b));
#elif VW == 8
  return (vec)_mm256_max_ps((__m256)a, (__m256)all_lanes(b));
#endif
  vec r;
  UNROLL for (int l = 0; l < VW; l++) r[l] = a[l] > b ? a[l] : b;
  return r;
}
INLINE vec where(ivec condition, vec yes, vec no) { return (vec)((condition & (ivec)yes) | (~condition & (ivec)no)); }
INLINE ivec where_int(ivec condition, ivec yes, ivec no) { return (condition & yes) | (~condition & no); }
INLINE vec where_positive(vec condition, vec value) { return (vec)((condition > 0) & (ivec)value); }
INLINE vec where_equal(ivec a, int b, vec value) { return (vec)((a == b) & (ivec)value); }
INLINE vec kept(vec value, int lane, int valid) { /* +0 in lanes past the last sample */
  if (lane + VW <= valid) return value;
  vec r;
  for (int l = 0; l < VW; l++) r[l] = lane + l < valid ? value[l] : 0.0f;
  return r;
}

INLINE ivec bits_of(vec x) { return (ivec)x; }
INLINE vec from_bits(ivec x) { return (vec)x; }
INLINE ivec to_int(vec x) { return __builtin_convertvector(x, ivec); }
INLINE vec to_float(ivec x) { return __builtin_convertvector(x, vec); }
INLINE vec inverse_root(vec x) {
  vec r;
  for (int l = 0; l < VW; l++) r[l] = 1.0f / sqrtf(x[l]);
  return r;
}

/* ---- sums ---- */

/* The tree over one block's lanes. */
static float block_sum(const float *lane) {
  float sum[LANES] __attribute__((aligned(64)));
  memcpy(sum, lane, sizeof sum);
  for (int half = LANES / 2; half; half /= 2)
    for (int l = 0; l < half; l++) sum[l] = sum[l] + sum[l + half];
  return sum[0];
}

/* Squares are added to 64 sums in turn, then their tree. The values have room for as many behind the last. */
static float sum_of_squares(float *values, int64_t n) {
  vec sum[SQUARES / VW] = {{0}};
  memset(values + n, 0, sizeof(float) * SQUARES);
  for (int64_t p = 0; p < n; p += SQUARES)
    UNROLL for (int k = 0; k < SQUARES / VW; k++) {
      vec x = *(const loose_vec *)(values + p + k * VW);
      sum[k] = fused(x, x, sum[k]);
    }
  for (int half = SQUARES / VW / 2; half * VW >= LANES; half /= 2)
    for (int k = 0; k < half; k++) sum[k] = sum[k] + sum[k + half];
  return block_sum((const float *)sum);
}

typedef struct { /* the same chains at lines x count positions: where values and outputs lie at each */
  int lines, count;
  int64_t value_line, value_step, out_line, out_step;
} Sweep;

#define SWEEP(s, a, place, out_, ...)                                     \
  for (int line = 0; line < s.lines; line++)                              \
    for (int p = 0; p < s.count; p++) {                                   \
      Terms here = a;                                                     \
      here.value += line * s.value_line + p * s.value_step;               \
      float *out_ = place + line * s.out_line + p * s.out_step;           \
      __VA_ARGS__;                                                        \
    }

static void sweep_from_bias(Sweep s, int outputs, int lanes, const float *bias, Terms a, float *to) {
  SWEEP(s, a, to, out, chains_from_bias(outputs, lanes, bias, here, none, out))
}
static void sweep_from_zero(Sweep s, int outputs, int lanes, Terms a, float *to) {
  SWEEP(s, a, to, out, chains_from_zero(outputs, lanes, here, out))
}
/* Outputs lie `step` apart, and values where `a.at` says. */
static void sweep_taps(Sweep s, int outputs, int lanes, const float *bias, Terms a, float *to, int64_t step) {
  SWEEP(s, a, to, out, chains(outputs, lanes, BIAS, bias, here, none, (Place){out, step, 0}))
}

typedef struct { /* of a convolution over a padded image: `down` x `across` places in each of the channels */
  int channels, height, width, down, across, stride;
} Windows;

/* Onto the places of each window, which `at` numbers, block after block of lanes: what one window adds to is near what
   the next does. */
static void sweep_onto_windows(Sweep s, Windows w, int lanes, Terms a, float *to, const int32_t *at) {
  int taps = w.channels * w.down * w.across;
  for (int block = 0; block < lanes; block += LANES, a.value += LANES, to += LANES)
    SWEEP(s, a, to, out, chains(taps, LANES, MEMORY, 0, here, none, (Place){out, 0, at}))
}

/* Weight gradients whose vectors run over inputs: rows of lanes become rows of samples, with a whole number of vectors. */
INLINE int64_t sample_row(int inputs) {
  return (inputs + VW - 1) / VW * VW + VW; /* the odd vector keeps rows off one set of the cache */
}

/* samples[b][i] = values[i * step + b], zeros behind the last input up to a whole vector */
static void rows_of_samples(const float *values, int64_t step, int inputs, int lanes, float *samples) {
  int whole = inputs / VW * VW;
  int64_t row = sample_row(inputs);
  for (int i = 0; i < whole; i += VW)
    for (int b = 0; b < lanes; b += VW) transpose_square(values + i * step + b, step, samples + b * row + i, row);
  for (int b = 0; whole < inputs && b < lanes; b++)
    for (int i = whole; i < whole + VW; i++) samples[b * row + i] = i < inputs ? values[i * step + b] : 0.0f;
}

/* gradient[j][i] goes on as one chain over samples rising, delta_j * value_i */
static void outer_over_samples(float *gradient, float *scratch, int lanes, int valid, const float *delta, int m,
                               const float *values, int n) {
  int whole = n / VW * VW, rest = n - whole;
  int64_t row = sample_row(n);
  Terms terms = {delta, scratch, lanes, 1, row, valid, 0};
  rows_of_samples(values, lanes, n, lanes, scratch);
  if (whole) chains(m, whole, MEMORY, 0, terms, none, (Place){gradient, n, 0});
  terms.value += whole;
  if (!rest) return;
  for (int j = 0; j < m; j += ROWS) {
    float tail[ROWS][VW] __attribute__((aligned(64))) = {{0}};
    int some = m - j < ROWS ? m - j : ROWS;
    for (int r = 0; r < some; r++) memcpy(tail[r], gradient + (int64_t)(j + r) * n + whole, sizeof(float) * rest);
    chains(some, VW, MEMORY, 0, shifted(terms, j, 0), none, (Place){tail[0], VW, 0});
    for (int r = 0; r < some; r++) memcpy(gradient + (int64_t)(j + r) * n + whole, tail[r], sizeof(float) * rest);
  }
}

#define STEPS 4 /* time steps whose terms are added with one load of each sum */

static int64_t steps_floats(int outputs, int inputs, int length) {
  (void)length;
  return STEPS * LANES * (sample_row(inputs) + outputs) + outputs * sample_row(inputs);
}

/* sums[j][i] = start + delta_j * value_i over terms, for a whole number of vectors of inputs, or half ones */
INLINE void add_steps(enum Start start, int m, int n, Terms terms, Place sums) {
  int whole = (n + VW - 1) / VW * VW;
#if VW == 16
  if (whole - n >= HALF) {
    whole -= VW;
    half_chains(m, start, shifted(terms, 0, whole), shifted_place(sums, 0, whole));
  }
#endif
  chains(m, whole, start, 0, terms, none, sums);
}

/* gradient[j][i] += over blocks, one chain from +0 over time rising, then samples rising, delta_j * value_i */
static void outer_over_steps(float *gradient, float *scratch, int lanes, Side delta, int m, Side value, int n, int length) {
  int64_t row = sample_row(n), terms = STEPS * LANES;
  float *samples = scratch, *deltas = samples + terms * row, *sums = deltas + terms * m;
  for (int block = 0; block < lanes; block += LANES) {
    for (int first = 0; first < length; first += STEPS) {
      int some = length - first < STEPS ? length - first : STEPS;
      for (int t = 0; t < some; t++) {
        rows_of_samples(value.base + (first + t) * value.step + block, lanes, n, LANES, samples + t * LANES * row);
        for (int j = 0; j < m; j++)
          copy_floats(deltas + j * terms + t * LANES, side_row(delta, j) + (first + t) * delta.step + block, LANES);
      }
      Terms these = {deltas, samples, terms, 1, row, some * LANES, 0};
      if (first)
        add_steps(MEMORY, m, n, these, (Place){sums, row, 0});
      else
        add_steps(ZERO, m, n, these, (Place){sums, row, 0});
    }
    for (int j = 0; j < m; j++)
      for (int i = 0; i < n; i++) gradient[(int64_t)j * n + i] = gradient[(int64_t)j * n + i] + sums[j * row + i];
  }
}

/* Up to VW values of a sample; the bytes or floats behind them are not touched. */
INLINE vec read_values(const void *data, int as_bytes, float scale, int64_t at, int64_t some) {
  vec r = ZEROS;
  if (as_bytes) {
    const uint8_t *from = (const uint8_t *)data + at;
    ivec byte = INTS(0);
    if (some == VW)
      byte = widened(from);
    else
      for (int k = 0; k < some; k++) byte[k] = from[k];
    return to_float(byte) * scale;
  }
  const float *from = (const float *)data + at;
  if (some == VW) return *(const loose_vec *)from;
  for (int k = 0; k < some; k++) r[k] = from[k];
  return r;
}

/* One value of a sample. */
INLINE float read_value(const void *data, int as_bytes, float scale, int64_t at) {
  return as_bytes ? (float)((const uint8_t *)data)[at] * scale : ((const float *)data)[at];
}

/* Rows of samples -> rows of lanes; lanes past the last sample are zero. rows == NULL: the samples from `first` on. */
static void load_rows(const void *data, int as_bytes, float scale, int64_t width, const int32_t *rows, int first,
                      int valid, int lanes, float *out) {
  for (int lane = 0; lane < lanes; lane += VW)
    for (int64_t f = 0; f < width; f += VW) {
      float square[VW][VW] __attribute__((aligned(64))), turned[VW][VW] __attribute__((aligned(64)));
      int64_t some = width - f < VW ? width - f : VW;
      if (some <= VW / 4) { /* not worth a square */
        for (int64_t k = f; k < f + some; k++)
          for (int l = lane; l < lane + VW; l++)
            out[k * lanes + l] =
                l < valid ? read_value(data, as_bytes, scale, (rows ? rows[l] : first + l) * width + k) : 0.0f;
        continue;
      }
      for (int l = 0; l < VW; l++) {
        int64_t row = lane + l >= valid ? -1 : rows ? rows[lane + l] : first + lane + l;
        *(vec *)square[l] = row < 0 ? ZEROS : read_values(data, as_bytes, scale, row * width + f, some);
      }
      transpose_square(square[0], VW, turned[0], VW);
      for (int k = 0; k < some; k++) *(vec *)(out + (f + k) * lanes + lane) = *(vec *)turned[k];
    }
}
