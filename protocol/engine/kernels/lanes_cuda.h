/* lanes.h and rows.h for one thread block that trains one network: the same sums, the same order of operations.

   A vector is one float. Every function here is called by all threads of the block with the same arguments; they share
   its outputs among them, and it ends with a barrier, so that all writes are seen by what follows. Whoever compiles
   this says what THREAD, THREADS and SYNC are: NVRTC below, or an emulator of threads on a processor. */
#pragma once

#ifdef __CUDACC_RTC__
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned long long uintptr_t;
#define THREAD ((int)threadIdx.x)
#define THREADS ((int)blockDim.x)
#define BLOCK ((int)blockIdx.x)
#define BLOCKS ((int)gridDim.x)
#define SYNC __syncthreads()
#define SHARED __shared__
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(128, 4) name
#define INLINE static __forceinline__
#define UNROLL _Pragma("unroll")
#define APART __noinline__ /* compiled once, not at every call: seconds instead of a minute */
#define MAKE(type) type
#define NULL 0
#endif
#define restrict /* read-only loads are not coherent with a block's own writes */

#define LANES 16
#define LANES_MAX 64
#define VW 1
#define ROWS 4       /* outputs that a thread computes together, with one load of each value */
#define TILE_ROWS 16 /* rows of a weight gradient whose sums are kept at once */
#define TILE_HEIGHT 4
#define TILE_WIDTH 2
#define SQUARES 64

typedef float vec;
typedef int32_t ivec;
#define ZEROS 0.0f
#define INTS(n) (n)
#ifdef __CUDACC_RTC__
INLINE float fused_one(float a, float b, float c) { return __fmaf_rn(a, b, c); } /* -fmad=false leaves it alone */
#endif
INLINE vec fused(vec a, vec b, vec c) { return fused_one(a, b, c); }
INLINE vec all_lanes(float x) { return x; }

/* ---- loops: the threads take turns, then wait for each other ---- */

#define EACH_FROM_THREAD(i, count) \
  for (int once_ = 1; once_; once_ = 0, SYNC) for (int64_t i = THREAD; i < (count); i += THREADS)
#define EACH_ITEM(i, count) EACH_FROM_THREAD(i, count)
#define EACH_VEC(k, count) EACH_FROM_THREAD(k, count)
#define EACH_ROW(row, rows, lanes)                           \
  EACH_FROM_THREAD(item_, (int64_t)(rows) * (lanes))         \
  for (int64_t row = (int32_t)item_ / (int32_t)(lanes), own_ = (int32_t)item_ % (int32_t)(lanes), go_ = 1; go_; go_ = 0)
#define EACH_LANE(k, lanes) for (int64_t k = own_, go_on_ = 1; go_on_; go_on_ = 0)
#define DRAWS 1
#define EACH_DRAW(k, lanes) EACH_LANE(k, lanes)
#define ALONE(...)                  \
  {                                 \
    SYNC;                           \
    if (THREAD == 0) {__VA_ARGS__}  \
    SYNC;                           \
  }

#define AT(p, k) ((p)[k])
#define READ(p, k) ((p)[k])
#define READ_INT(p, k) ((p)[k])
#define WRITE_INT(p, k, value) ((p)[k] = (value))

static void fill_zero(float *to, int64_t floats) { EACH_ITEM(k, floats) to[k] = 0.0f; }
static void copy_floats(float *to, const float *from, int64_t floats) { EACH_ITEM(k, floats) to[k] = from[k]; }

/* ---- choosing ---- */

INLINE vec smaller(vec a, float b) { return a < b ? a : b; }
INLINE vec larger(vec a, float b) { return a > b ? a : b; }
INLINE vec where(ivec condition, vec yes, vec no) { return condition ? yes : no; }
INLINE ivec where_int(ivec condition, ivec yes, ivec no) { return condition ? yes : no; }
INLINE vec where_positive(vec condition, vec value) { return condition > 0 ? value : 0.0f; }
INLINE vec where_equal(ivec a, int b, vec value) { return a == b ? value : 0.0f; }
INLINE vec kept(vec value, int lane, int valid) { return lane < valid ? value : 0.0f; }

#ifdef __CUDACC_RTC__
INLINE ivec bits_of(vec x) { return __float_as_int(x); }
INLINE vec from_bits(ivec x) { return __int_as_float(x); }
#else
INLINE ivec bits_of(vec x) { return ((union {vec f; ivec i;}){x}).i; }
INLINE vec from_bits(ivec x) { return ((union {ivec i; vec f;}){x}).f; }
#endif
INLINE ivec to_int(vec x) { return (ivec)x; }
INLINE vec to_float(ivec x) { return (vec)x; }
INLINE vec inverse_root(vec x) { return 1.0f / sqrtf(x); }

/* ---- sums over inputs: a thread computes `rows` outputs of one lane at one position ---- */

typedef struct { /* as in lanes.h */
  const float *weight, *value;
  int64_t row, column, step;
  int n;
  const int32_t *at;
} Terms;
enum Start { ZERO, BIAS, MEMORY };
typedef struct {
  float *out;
  int64_t step;
  const int32_t *at;
} Place;
typedef struct { /* as in rows.h */
  int lines, count;
  int64_t value_line, value_step, out_line, out_step;
} Sweep;

INLINE void add_terms(int rows, Terms t, const float *const *weight, int64_t shift, float *sum) {
  const float *value = t.value + shift;
  for (int i = 0; i < t.n; i++) {
    float v = value[t.at ? t.at[i] : i * t.step];
    UNROLL for (int r = 0; r < rows; r++) sum[r] = fused(v, weight[r][i * t.column], sum[r]);
  }
}

INLINE void chain_rows(int rows, Sweep s, int outputs, int lanes, enum Start start, const float *bias, Terms a, Terms b,
                       Place place) {
  uint32_t tiles = (uint32_t)(outputs + rows - 1) / rows, items = tiles * lanes * s.lines * s.count;
  for (uint32_t item = THREAD; item < items; item += THREADS) {
    uint32_t lane = item % lanes, rest = item / lanes, first = rest % tiles * rows, position = rest / tiles;
    int64_t line = position / s.count, p = position % s.count;
    float sum[ROWS], *out[ROWS];
    const float *weight_a[ROWS], *weight_b[ROWS];
    UNROLL for (int r = 0; r < rows; r++) {
      int j = (int)first + r < outputs ? (int)first + r : outputs - 1; /* the last one again, not written */
      out[r] = place.out + (place.at ? place.at[j] : j * place.step) + line * s.out_line + p * s.out_step + lane;
      weight_a[r] = a.weight + j * a.row;
      weight_b[r] = b.weight + j * b.row;
      sum[r] = start == BIAS ? bias[j] : start == MEMORY ? *out[r] : 0.0f;
    }
    add_terms(rows, a, weight_a, line * s.value_line + p * s.value_step + lane, sum);
    add_terms(rows, b, weight_b, lane, sum);
    UNROLL for (int r = 0; r < rows; r++) if ((int)first + r < outputs) *out[r] = sum[r];
  }
}

/* out_j = start + terms of a + terms of b, for all positions, outputs and lanes */
APART static void swept(Sweep s, int outputs, int lanes, enum Start start, const float *bias, Terms a, Terms b, Place place) {
  int64_t each = (int64_t)outputs * lanes * s.lines * s.count / THREADS;
  if (each >= 4)
    chain_rows(4, s, outputs, lanes, start, bias, a, b, place);
  else if (each >= 2)
    chain_rows(2, s, outputs, lanes, start, bias, a, b, place);
  else
    chain_rows(1, s, outputs, lanes, start, bias, a, b, place);
  SYNC;
}

#define none no_terms()
static Terms no_terms(void) {
  Terms t = {0, 0, 0, 0, 0, 0, 0};
  return t;
}
static Place at_rows(float *out, int64_t step) {
  Place p = {out, step, 0};
  return p;
}
static Sweep one_place(void) {
  Sweep s = {1, 1, 0, 0, 0, 0};
  return s;
}

APART static void chains(int outputs, int lanes, enum Start start, const float *bias, Terms a, Terms b, Place place) {
  swept(one_place(), outputs, lanes, start, bias, a, b, place);
}
static void chains_from_bias(int outputs, int lanes, const float *bias, Terms a, Terms b, float *out) {
  chains(outputs, lanes, BIAS, bias, a, b, at_rows(out, lanes));
}
static void chains_from_zero(int outputs, int lanes, Terms a, float *out) {
  chains(outputs, lanes, ZERO, 0, a, none, at_rows(out, lanes));
}
static void chains_onto(int outputs, int lanes, Terms a, Terms b, float *out, int64_t step) {
  chains(outputs, lanes, MEMORY, 0, a, b, at_rows(out, step));
}
static void sweep_from_bias(Sweep s, int outputs, int lanes, const float *bias, Terms a, float *out) {
  swept(s, outputs, lanes, BIAS, bias, a, none, at_rows(out, lanes));
}
static void sweep_from_zero(Sweep s, int outputs, int lanes, Terms a, float *out) {
  swept(s, outputs, lanes, ZERO, 0, a, none, at_rows(out, lanes));
}
static void sweep_onto_taps(Sweep s, int outputs, int lanes, Terms a, float *to, const int32_t *at) {
  for (int line = 0; line < s.lines; line++)
    for (int p = 0; p < s.count; p++) { /* one place after another: their windows overlap */
      Terms here = a;
      here.value += line * s.value_line + p * s.value_step;
      Place place = {to + line * s.out_line + p * s.out_step, 0, at};
      chains(outputs, lanes, MEMORY, 0, here, none, place);
    }
}
static void sweep_taps(Sweep s, int outputs, int lanes, const float *bias, Terms a, float *out, int64_t step) {
  swept(s, outputs, lanes, BIAS, bias, a, none, at_rows(out, step));
}

static Terms weights(const float *weight, int inputs, const float *value, int lanes) {
  Terms t = {weight, value, inputs, 1, lanes, inputs, 0};
  return t;
}
static Terms transposed(const float *weight, int inputs, int outputs, const float *delta, int lanes) {
  Terms t = {weight, delta, 1, inputs, lanes, outputs, 0};
  return t;
}

/* ---- sums over lanes and positions: weight gradients ---- */

static float block_sum(const float *lane) {
  float sum[LANES];
  UNROLL for (int l = 0; l < LANES; l++) sum[l] = lane[l];
  UNROLL for (int half = LANES / 2; half; half /= 2)
    UNROLL for (int l = 0; l < LANES / 2; l++) if (l < half) sum[l] = sum[l] + sum[l + half];
  return sum[0];
}

static float sum_of_squares(float *values, int64_t n) {
  EACH_ITEM(l, SQUARES) {
    float sum = 0.0f;
    for (int64_t p = l; p < n; p += SQUARES) sum = fused(values[p], values[p], sum);
    values[n + l] = sum;
  }
  for (int half = SQUARES / 2; half >= LANES; half /= 2)
    EACH_ITEM(l, half) values[n + l] = values[n + l] + values[n + l + half];
  return block_sum(values + n);
}

/* gradient[k] += tree of sums[k] */
APART static void add_trees(float *gradient, float *sums, int count) {
  EACH_ITEM(k, count) gradient[k] = gradient[k] + block_sum(sums + k * LANES);
}

typedef struct { /* as in lanes.h */
  const float *base;
  int64_t row, line, step;
  const int32_t *at;
} Side;

INLINE const float *side_row(Side s, int k) { return s.base + (s.at ? s.at[k] : k * s.row); }
INLINE int at_most(int a, int b) { return a < b ? a : b; }

/* sums[r][i][lane] of rows j .. j + rows: a thread computes a tile of 4 x 2 for one lane, over positions rising */
static void outer_rows(int rows, Side delta, int j, Side value, int inputs, int lines, int count, float *sums) {
  uint32_t down = (rows + TILE_HEIGHT - 1) / TILE_HEIGHT, across = (inputs + TILE_WIDTH - 1) / TILE_WIDTH;
  for (uint32_t item = THREAD; item < down * across * LANES; item += THREADS) {
    int lane = item % LANES, i = item / LANES % across * TILE_WIDTH, top = item / LANES / across * TILE_HEIGHT;
    float sum[TILE_HEIGHT][TILE_WIDTH];
    const float *d[TILE_HEIGHT], *v[TILE_WIDTH];
    UNROLL for (int r = 0; r < TILE_HEIGHT; r++) d[r] = side_row(delta, j + at_most(top + r, rows - 1)) + lane;
    UNROLL for (int c = 0; c < TILE_WIDTH; c++) v[c] = side_row(value, at_most(i + c, inputs - 1)) + lane;
    UNROLL for (int r = 0; r < TILE_HEIGHT; r++) UNROLL for (int c = 0; c < TILE_WIDTH; c++) sum[r][c] = 0.0f;
    for (int line = 0; line < lines; line++)
      for (int p = 0; p < count; p++) {
        int64_t at_d = line * delta.line + p * delta.step, at_v = line * value.line + p * value.step;
        float x[TILE_WIDTH];
        UNROLL for (int c = 0; c < TILE_WIDTH; c++) x[c] = v[c][at_v];
        UNROLL for (int r = 0; r < TILE_HEIGHT; r++) {
          float y = d[r][at_d];
          UNROLL for (int c = 0; c < TILE_WIDTH; c++) sum[r][c] = fused(y, x[c], sum[r][c]);
        }
      }
    UNROLL for (int r = 0; r < TILE_HEIGHT; r++) UNROLL for (int c = 0; c < TILE_WIDTH; c++)
      if (top + r < rows && i + c < inputs) sums[((int64_t)(top + r) * inputs + i + c) * LANES + lane] = sum[r][c];
  }
  SYNC;
}

APART static void outer(float *gradient, float *sums, int lanes, Side delta, int outputs, Side value, int inputs, int lines,
                  int count) {
  for (int block = 0; block < lanes; block += LANES) {
    for (int j = 0; j < outputs; j += TILE_ROWS) {
      int rows = at_most(TILE_ROWS, outputs - j);
      outer_rows(rows, delta, j, value, inputs, lines, count, sums);
      add_trees(gradient + (int64_t)j * inputs, sums, rows * inputs);
    }
    delta.base += LANES;
    value.base += LANES;
  }
}

typedef struct { /* as in lanes.h */
  int lines, count;
  int64_t frame, line, step;
} Image;

static void outer_in_image(float *gradient, float *space, int lanes, Image m, Side delta, int outputs, const float *value,
                           const int32_t *at, int inputs) {
  Side values = {value, 0, m.line * lanes, m.step * lanes, at};
  outer(gradient, space, lanes, delta, outputs, values, inputs, m.lines, m.count);
}
static int64_t image_floats(int64_t frame, int inputs, int positions) { return 0 * frame * inputs * positions; } /* none is packed */

static void outer_in_time(float *gradient, float *space, int lanes, Side delta, int outputs, Side value, int inputs,
                          int count) {
  outer(gradient, space, lanes, delta, outputs, value, inputs, 1, count);
}
static int64_t packed_floats(int inputs, int count) { return 0 * inputs * count; } /* none is packed */

APART static void over_positions(float *gradient, float *sums, int lanes, const float *delta, int64_t row, int64_t step,
                           int outputs, int count) {
  for (int block = 0; block < lanes; block += LANES) {
    EACH_ROW(j, outputs, LANES) EACH_LANE(k, LANES) {
      float sum = 0.0f;
      for (int p = 0; p < count; p++) sum = sum + delta[j * row + p * step + block + k];
      sums[j * LANES + k] = sum;
    }
    add_trees(gradient, sums, outputs);
  }
}

APART static void outer_over_samples(float *gradient, float *scratch, int lanes, int valid, const float *delta, int m,
                               const float *values, int n) {
  EACH_ROW(i, n, lanes) EACH_LANE(b, lanes) scratch[b * n + i] = values[i * lanes + b];
  Terms terms = {delta, scratch, lanes, 1, n, valid, 0};
  chains(m, n, MEMORY, 0, terms, none, at_rows(gradient, n)); /* inputs take the place of lanes */
}

/* gradient[j][i] += over blocks, one chain over time rising, then samples rising: a thread has 4 rows of one column */
APART static void outer_over_steps(float *gradient, float *scratch, int lanes, Side delta, int m, Side value, int n,
                             int length) {
  for (int block = 0; block < lanes; block += LANES) {
    EACH_ROW(i, length * n, LANES) EACH_LANE(b, LANES)
      scratch[(i / n * LANES + b) * n + i % n] = value.base[i / n * value.step + i % n * value.row + block + b];
    uint32_t down = (m + TILE_HEIGHT - 1) / TILE_HEIGHT;
    for (uint32_t item = THREAD; item < down * n; item += THREADS) {
      int i = item % n, top = item / n * TILE_HEIGHT;
      float sum[TILE_HEIGHT];
      const float *d[TILE_HEIGHT], *v = scratch + i;
      UNROLL for (int r = 0; r < TILE_HEIGHT; r++) d[r] = side_row(delta, at_most(top + r, m - 1)) + block, sum[r] = 0.0f;
      for (int t = 0; t < length; t++)
        for (int l = 0; l < LANES; l++, v += n)
          UNROLL for (int r = 0; r < TILE_HEIGHT; r++) sum[r] = fused(d[r][t * delta.step + l], *v, sum[r]);
      UNROLL for (int r = 0; r < TILE_HEIGHT; r++) if (top + r < m) {
        float *to = gradient + (int64_t)(top + r) * n + i;
        *to = *to + sum[r];
      }
    }
    SYNC;
  }
}
static int64_t steps_floats(int outputs, int inputs, int length) { return 0 * outputs + (int64_t)length * LANES * inputs; }

/* ---- rows of samples ---- */

APART static void load_rows(const void *data, int as_bytes, float scale, int64_t width, const int32_t *rows, int first,
                      int valid, int lanes, float *out) {
  EACH_ROW(f, width, lanes) EACH_LANE(lane, lanes) {
    float value = 0.0f;
    if (lane < valid) {
      int64_t at = (rows ? rows[lane] : first + lane) * width + f;
      value = as_bytes ? (float)((const uint8_t *)data)[at] * scale : ((const float *)data)[at];
    }
    out[f * lanes + lane] = value;
  }
}
