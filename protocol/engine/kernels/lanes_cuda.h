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
#ifndef BLOCK_THREADS
#define BLOCK_THREADS 128 /* driver.py's THREADS */
#define BLOCKS_MIN 4      /* of a multiprocessor */
#endif
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(BLOCK_THREADS, BLOCKS_MIN) name
#define INLINE static __forceinline__
#define UNROLL _Pragma("unroll")
#define UNROLL_BY_2 _Pragma("unroll 2")
#define FOUR float4
#define EXCHANGE(x, with) __shfl_xor_sync(0xffffffffu, x, with) /* the value of the thread that is `with` away */
#define APART __noinline__ /* compiled once, not at every call: seconds instead of a minute */
#define MAKE(type) type
#define NULL 0
#endif
#define restrict /* read-only loads are not coherent with a block's own writes */

#define LANES 16
#define LANES_MAX 64
#define QUAD 4 /* lanes that a thread computes together: one load */
#define VW QUAD
#define ROWS 8 /* outputs that a thread computes together at most */
#define DEEP 4 /* terms that are loaded before the first is added */
#define TILE 4 /* rows and columns of a weight gradient that 16 threads have together */
#define TILE_ROWS 0
#define SQUARES 64

INLINE void load_quad(const float *from, float value[QUAD]) { /* `from` is a multiple of 16 bytes */
  FOUR four = *(const FOUR *)from;
  value[0] = four.x, value[1] = four.y, value[2] = four.z, value[3] = four.w;
}

/* The first `some` of four. */
INLINE void store_quad(float *to, const float value[QUAD], int some) {
  FOUR four = {value[0], value[1], value[2], value[3]};
  if (some >= QUAD && (uintptr_t)to % sizeof four == 0)
    *(FOUR *)to = four;
  else
    UNROLL for (int l = 0; l < QUAD; l++) if (l < some) to[l] = value[l];
}

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

/* ---- sums over inputs: a thread computes `rows` outputs of four lanes at one position ---- */

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
typedef struct {
  int channels, height, width, down, across, stride;
} Windows;

INLINE int64_t place_of(Place p, int j) { return p.at ? p.at[j] : j * p.step; }
INLINE int at_most(int a, int b) { return a < b ? a : b; }
INLINE int whole_quads(int n) { return (n + QUAD - 1) / QUAD * QUAD; }

/* DEEP terms at a time: their loads do not wait for each other. `row` and `column` are constants where they are 1. */
INLINE void add_deep(int rows, int64_t row, int64_t column, Terms t, int first, const float *value, float sum[ROWS][QUAD]) {
  const float *weight = t.weight + first * row;
  int i = 0;
  for (; i + DEEP <= t.n; i += DEEP) {
    float v[DEEP][QUAD], w[DEEP][ROWS];
    UNROLL for (int u = 0; u < DEEP; u++) load_quad(value + (t.at ? t.at[i + u] : u * t.step), v[u]);
    UNROLL for (int u = 0; u < DEEP; u++) UNROLL for (int r = 0; r < rows; r++) w[u][r] = weight[r * row + u * column];
    UNROLL for (int u = 0; u < DEEP; u++) UNROLL for (int r = 0; r < rows; r++)
      UNROLL for (int l = 0; l < QUAD; l++) sum[r][l] = fused(v[u][l], w[u][r], sum[r][l]);
    weight += DEEP * column;
    if (!t.at) value += DEEP * t.step;
  }
  for (; i < t.n; i++) {
    float v[QUAD];
    load_quad(t.at ? value + t.at[i] : value, v);
    UNROLL for (int r = 0; r < rows; r++) {
      float w = weight[r * row];
      UNROLL for (int l = 0; l < QUAD; l++) sum[r][l] = fused(v[l], w, sum[r][l]);
    }
    weight += column;
    if (!t.at) value += t.step;
  }
}

/* sum[r][l] goes on over inputs rising, weight of output first + r times value of lane l */
INLINE void add_terms(int rows, Terms t, int first, const float *value, float sum[ROWS][QUAD]) {
  if (t.column == 1)
    add_deep(rows, t.row, 1, t, first, value, sum);
  else if (t.row == 1)
    add_deep(rows, 1, t.column, t, first, value, sum);
  else
    add_deep(rows, t.row, t.column, t, first, value, sum);
}

/* How many outputs a thread computes together: few if the threads would not all have some, many to load values seldom. */
static int rows_together(int outputs, uint32_t others) {
  int best = 1;
  uint32_t least = 0xffffffffu;
  for (int rows = ROWS; rows; rows /= 2) {
    uint32_t turns = ((uint32_t)(outputs + rows - 1) / rows * others + THREADS - 1) / THREADS, cost = turns * (rows + 1);
    if (rows <= outputs && cost < least) best = rows, least = cost;
  }
  return best;
}

/* The last tile ends with the last output: what it shares with the tile before is not written. */
INLINE void chain_rows(int rows, Sweep s, int outputs, int lanes, enum Start start, const float *bias, Terms a, Terms b,
                       Place place) {
  uint32_t quads = whole_quads(lanes) / QUAD, tiles = (uint32_t)(outputs + rows - 1) / rows;
  uint32_t items = tiles * quads * s.lines * s.count;
  for (uint32_t item = THREAD; item < items; item += THREADS) {
    uint32_t rest = item / quads, position = rest / tiles;
    int lane = (int)(item % quads) * QUAD, top = (int)(rest % tiles) * rows, first = at_most(top, outputs - rows);
    int64_t line = position / s.count, p = position % s.count;
    float sum[ROWS][QUAD], *out = place.out + line * s.out_line + p * s.out_step + lane;
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int l = 0; l < QUAD; l++) {
      int mine = start == MEMORY && first + r >= top && lane + l < lanes;
      sum[r][l] = start == BIAS ? bias[first + r] : mine ? out[place_of(place, first + r) + l] : 0.0f;
    }
    add_terms(rows, a, first, a.value + line * s.value_line + p * s.value_step + lane, sum);
    if (b.n) add_terms(rows, b, first, b.value + lane, sum);
    UNROLL for (int r = 0; r < rows; r++)
      if (first + r >= top) store_quad(out + place_of(place, first + r), sum[r], lanes - lane);
  }
}

/* out_j = start + terms of a + terms of b, for all positions, outputs and lanes */
APART static void swept(Sweep s, int outputs, int lanes, enum Start start, const float *bias, Terms a, Terms b, Place place) {
  switch (rows_together(outputs, (uint32_t)whole_quads(lanes) / QUAD * s.lines * s.count)) {
    case 8: chain_rows(8, s, outputs, lanes, start, bias, a, b, place); break;
    case 4: chain_rows(4, s, outputs, lanes, start, bias, a, b, place); break;
    case 2: chain_rows(2, s, outputs, lanes, start, bias, a, b, place); break;
    default: chain_rows(1, s, outputs, lanes, start, bias, a, b, place);
  }
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

static void chains(int outputs, int lanes, enum Start start, const float *bias, Terms a, Terms b, Place place) {
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
static void sweep_taps(Sweep s, int outputs, int lanes, const float *bias, Terms a, float *out, int64_t step) {
  swept(s, outputs, lanes, BIAS, bias, a, none, at_rows(out, step));
}

/* A thread has four lanes of one place of the padded image, in `rows` channels, and goes through the windows that hold
   it, in their order: no place of the image is written by two. */
INLINE void windows_rows(int rows, Sweep s, Windows w, int lanes, Terms a, float *to) {
  uint32_t quads = lanes / QUAD, tiles = (uint32_t)(w.channels + rows - 1) / rows, items = tiles * quads * w.height * w.width;
  int64_t plane = (int64_t)w.height * w.width * lanes;
  a.row = (int64_t)w.down * w.across;
  for (uint32_t item = THREAD; item < items; item += THREADS) {
    uint32_t rest = item / quads, place = rest % (uint32_t)(w.height * w.width);
    int lane = (int)(item % quads) * QUAD, y = (int)place / w.width, x = (int)place % w.width;
    int top = (int)(rest / (uint32_t)(w.height * w.width)) * rows, first = at_most(top, w.channels - rows);
    float sum[ROWS][QUAD];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int l = 0; l < QUAD; l++) sum[r][l] = 0.0f;
    int line0 = y < w.down ? 0 : (y - w.down) / w.stride + 1, p0 = x < w.across ? 0 : (x - w.across) / w.stride + 1;
    for (int line = line0; line < s.lines && line * w.stride <= y; line++)
      for (int p = p0; p < s.count && p * w.stride <= x; p++) {
        Terms here = a;
        here.weight += (y - line * w.stride) * w.across + x - p * w.stride;
        add_deep(rows, here.row, here.column, here, first, a.value + line * s.value_line + p * s.value_step + lane, sum);
      }
    UNROLL for (int r = 0; r < rows; r++)
      if (first + r >= top) store_quad(to + (first + r) * plane + (int64_t)place * lanes + lane, sum[r], QUAD);
  }
}

APART static void sweep_onto_windows(Sweep s, Windows w, int lanes, Terms a, float *to, const int32_t *at) {
  (void)at;
  int rows = rows_together(w.channels, (uint32_t)lanes / QUAD * w.height * w.width);
  if (rows >= 4)
    windows_rows(4, s, w, lanes, a, to);
  else if (rows == 2)
    windows_rows(2, s, w, lanes, a, to);
  else
    windows_rows(1, s, w, lanes, a, to);
  SYNC;
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

/* The trees over a block's 16 lanes, which 16 neighbouring threads have, of 16 sums at once: each keeps half of its sums
   and gives the other half away, four times. Returns the total of sum number `lane`. */
INLINE float trees(float sum[LANES], int lane) {
  UNROLL for (int half = LANES / 2; half; half /= 2) {
    int upper = lane & half;
    UNROLL for (int k = 0; k < LANES / 2; k++) if (k < half) {
      float other = EXCHANGE(upper ? sum[k] : sum[k + half], half);
      sum[k] = (upper ? sum[k + half] : sum[k]) + other;
    }
  }
  return sum[0];
}

/* gradient[j][i] += over blocks, the tree of 16 chains, one a lane, over positions rising. Sixteen threads have a tile of
   TILE x TILE weights, each for one lane; all threads come along to the end, for the exchange. */
APART static void outer(float *gradient, int lanes, Side delta, int outputs, Side value, int inputs, int lines, int count) {
  uint32_t across = (uint32_t)(inputs + TILE - 1) / TILE, items = (uint32_t)(outputs + TILE - 1) / TILE * across * LANES;
  for (uint32_t begin = 0; begin < items; begin += THREADS) {
    uint32_t item = begin + THREAD < items ? begin + THREAD : items - 1;
    int lane = THREAD % LANES, i = (int)(item / LANES % across) * TILE, j = (int)(item / LANES / across) * TILE;
    int row = j + lane / TILE, column = i + lane % TILE;
    const float *d[TILE], *v[TILE];
    UNROLL for (int r = 0; r < TILE; r++) d[r] = side_row(delta, at_most(j + r, outputs - 1)) + lane;
    UNROLL for (int c = 0; c < TILE; c++) v[c] = side_row(value, at_most(i + c, inputs - 1)) + lane;
    int mine = begin + THREAD < items && row < outputs && column < inputs;
    float total = mine ? gradient[(int64_t)row * inputs + column] : 0.0f;
    for (int block = 0; block < lanes; block += LANES) {
      float sum[TILE * TILE];
      UNROLL for (int k = 0; k < TILE * TILE; k++) sum[k] = 0.0f;
      for (int line = 0; line < lines; line++) {
        int64_t at_d = line * delta.line + block, at_v = line * value.line + block;
        UNROLL_BY_2 for (int p = 0; p < count; p++, at_d += delta.step, at_v += value.step) {
          float x[TILE], y[TILE];
          UNROLL for (int c = 0; c < TILE; c++) x[c] = v[c][at_v];
          UNROLL for (int r = 0; r < TILE; r++) y[r] = d[r][at_d];
          UNROLL for (int k = 0; k < TILE * TILE; k++) sum[k] = fused(y[k / TILE], x[k % TILE], sum[k]);
        }
      }
      total = total + trees(sum, lane);
    }
    if (mine) gradient[(int64_t)row * inputs + column] = total;
  }
  SYNC;
}

typedef struct { /* as in lanes.h */
  int lines, count;
  int64_t frame, line, step;
} Image;

static void outer_in_image(float *gradient, float *space, int lanes, Image m, Side delta, int outputs, const float *value,
                           const int32_t *at, int inputs) {
  (void)space;
  Side values = {value, 0, m.line * lanes, m.step * lanes, at};
  outer(gradient, lanes, delta, outputs, values, inputs, m.lines, m.count);
}
static int64_t image_floats(int64_t frame, int inputs, int positions) { return 0 * frame * inputs * positions; } /* none is packed */

static void outer_in_time(float *gradient, float *space, int lanes, Side delta, int outputs, Side value, int inputs,
                          int count) {
  (void)space;
  outer(gradient, lanes, delta, outputs, value, inputs, 1, count);
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
  int row = whole_quads(n);
  EACH_ROW(b, lanes, n) EACH_LANE(i, n) scratch[b * row + i] = values[i * lanes + b];
  Terms terms = {delta, scratch, lanes, 1, row, valid, 0};
  chains(m, n, MEMORY, 0, terms, none, at_rows(gradient, n)); /* inputs take the place of lanes */
}

/* A thread has `rows` x 4 weights, over the time steps and samples of a block. */
INLINE void steps_rows(int rows, float *gradient, const float *samples, Side delta, int m, int n, int length) {
  uint32_t quads = whole_quads(n) / QUAD, items = (uint32_t)(m + rows - 1) / rows * quads;
  for (uint32_t item = THREAD; item < items; item += THREADS) {
    int i = (int)(item % quads) * QUAD, top = (int)(item / quads) * rows, first = at_most(top, m - rows);
    float sum[ROWS][QUAD];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int l = 0; l < QUAD; l++) sum[r][l] = 0.0f;
    Terms terms = {delta.base, samples + i, delta.row, 1, quads * QUAD, LANES, 0};
    for (int t = 0; t < length; t++) {
      add_deep(rows, terms.row, 1, terms, first, terms.value, sum);
      terms.weight += delta.step;
      terms.value += LANES * terms.step;
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int l = 0; l < QUAD; l++) {
      float *to = gradient + (int64_t)(first + r) * n + i + l;
      if (first + r >= top && i + l < n) *to = *to + sum[r][l];
    }
  }
}

/* gradient[j][i] += over blocks, one chain over time rising, then samples rising */
APART static void outer_over_steps(float *gradient, float *scratch, int lanes, Side delta, int m, Side value, int n,
                             int length) {
  int row = whole_quads(n), rows = rows_together(m, (uint32_t)row / QUAD);
  for (int block = 0; block < lanes; block += LANES, delta.base += LANES) {
    EACH_ROW(b, length * LANES, n) EACH_LANE(i, n)
      scratch[b * row + i] = value.base[b / LANES * value.step + i * value.row + block + b % LANES];
    if (rows == 8)
      steps_rows(8, gradient, scratch, delta, m, n, length);
    else if (rows == 4)
      steps_rows(4, gradient, scratch, delta, m, n, length);
    else
      steps_rows(1, gradient, scratch, delta, m, n, length);
    SYNC;
  }
}
static int64_t steps_floats(int outputs, int inputs, int length) {
  return 0 * outputs + (int64_t)length * LANES * whole_quads(inputs);
}

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
