/* Vectors of lanes, and the sums that exact-2 is made of.

   A value is a row of `lanes` floats, one a sample: 16, 32 or 64, a whole number of blocks of 16. How many lanes a group
   and a vector hold, how many outputs are computed together and how large a tile of a weight gradient is held in
   registers change the speed and never an operation or its order. */
#pragma once
#include "vectors.h"

#define LANES 16 /* of a block */
#define LANES_MAX 64
#define SQUARES 64 /* sums that the squares of a gradient go to */
#define ROWS 12    /* outputs computed together at most: accumulators held in registers */
#define VECS 4     /* vectors of lanes computed together at most */
#define TILE_ROWS 6 /* of a weight gradient, and columns */
#if VW == 16
#define TILE_COLUMNS 4
#else
#define TILE_COLUMNS 2
#endif

/* ---- sums over inputs: each output is one chain, inputs rising ---- */

typedef struct { /* output j adds weight[j * row + i * column] * value[at ? at[i] : i * step] */
  const float *weight, *value;
  int64_t row, column, step;
  int n;
  const int32_t *at;
} Terms;

enum Start { ZERO, BIAS, MEMORY }; /* what a chain starts from: 0, bias[j], or what `out` holds */

typedef struct { /* output j is written at out[at ? at[j] : j * step] */
  float *out;
  int64_t step;
  const int32_t *at;
} Place;

INLINE void add_terms(int rows, int vecs, Terms t, vec sum[ROWS][VECS]) {
  for (int i = 0; i < t.n; i++) {
    const float *value = t.value + (t.at ? t.at[i] : i * t.step);
    vec v[VECS];
    UNROLL for (int k = 0; k < vecs; k++) v[k] = *(const vec *)(value + k * VW);
    UNROLL for (int j = 0; j < rows; j++) {
      vec weight = all_lanes(t.weight[j * t.row + i * t.column]);
      UNROLL for (int k = 0; k < vecs; k++) sum[j][k] = fused(v[k], weight, sum[j][k]);
    }
  }
}

INLINE void chain_tile(int rows, int vecs, enum Start start, const float *bias, Terms a, Terms b, Place place) {
  vec sum[ROWS][VECS];
  UNROLL for (int j = 0; j < rows; j++) {
    float *out = place.out + (place.at ? place.at[j] : j * place.step);
    UNROLL for (int k = 0; k < vecs; k++) {
      if (start == ZERO) sum[j][k] = (vec){0};
      if (start == BIAS) sum[j][k] = all_lanes(bias[j]);
      if (start == MEMORY) sum[j][k] = *(const loose_vec *)(out + k * VW);
    }
  }
  add_terms(rows, vecs, a, sum);
  add_terms(rows, vecs, b, sum);
  UNROLL for (int j = 0; j < rows; j++) {
    float *out = place.out + (place.at ? place.at[j] : j * place.step);
    UNROLL for (int k = 0; k < vecs; k++) *(loose_vec *)(out + k * VW) = sum[j][k];
  }
}

INLINE Terms shifted(Terms t, int64_t row, int lane) {
  t.weight += row * t.row;
  t.value += lane;
  return t;
}

INLINE Place shifted_place(Place p, int64_t row, int lane) {
  p.out += lane + (p.at ? 0 : row * p.step);
  if (p.at) p.at += row;
  return p;
}

#define ONE_TILE(R, V) chain_tile(R, V, start, bias + j, shifted(a, j, lane), shifted(b, j, lane), shifted_place(place, j, lane))
#define TILES(R, V)                                              \
  for (; j + R <= outputs; j += R) {                             \
    int lane = 0;                                                \
    for (; lane + V * VW <= lanes; lane += V * VW) ONE_TILE(R, V); \
    for (; V > 1 && lane < lanes; lane += VW) ONE_TILE(R, 1);    \
  }

/* out_j = start + terms of a + terms of b, for all outputs and lanes */
INLINE void chains(int outputs, int lanes, enum Start start, const float *bias, Terms a, Terms b, Place place) {
  int j = 0;
#if VW == 16 || defined(__aarch64__) /* 32 registers */
  TILES(12, 2)
  TILES(8, 2)
  TILES(6, VECS)
  TILES(4, VECS)
#else
  TILES(6, 2)
  TILES(4, 2)
#endif
  TILES(2, VECS)
  TILES(1, VECS)
}

static const Terms none = {0};

static void chains_from_bias(int outputs, int lanes, const float *bias, Terms a, Terms b, float *out) {
  a.at = b.at = 0;
  chains(outputs, lanes, BIAS, bias, a, b, (Place){out, lanes, 0});
}
static void chains_from_zero(int outputs, int lanes, Terms a, float *out) {
  a.at = 0;
  chains(outputs, lanes, ZERO, out, a, none, (Place){out, lanes, 0});
}
static void chains_onto(int outputs, int lanes, Terms a, Terms b, float *out, int64_t step) {
  a.at = b.at = 0;
  chains(outputs, lanes, MEMORY, out, a, b, (Place){out, step, 0});
}

static Terms weights(const float *weight, int inputs, const float *value, int lanes) {
  return (Terms){weight, value, inputs, 1, lanes, inputs, 0};
}
static Terms transposed(const float *weight, int inputs, int outputs, const float *delta, int lanes) {
  return (Terms){weight, delta, 1, inputs, lanes, outputs, 0};
}

/* ---- sums over lanes and positions (time steps, or places of an image): weight gradients ---- */

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

typedef struct { /* row k at position p is base[(at ? at[k] : k * row) + line of p * line + place of p * step] */
  const float *base;
  int64_t row, line, step;
  const int32_t *at;
} Side;

INLINE const float *side_row(Side s, int k) { return s.base + (s.at ? s.at[k] : k * s.row); }

/* Over an image. A vector of lanes at a time, values are packed whole, and deltas for some positions, [position][row], so
   that a tile reads what lies together. */

#define POSITIONS 64 /* worked on together: their values stay in the first-level cache */

typedef struct { /* `lines` x `count` positions; `frame` values of a lane, of which line and step are places apart */
  int lines, count;
  int64_t frame, line, step;
} Image;

static int64_t image_floats(int64_t frame, int inputs, int count) {
  return (frame + TILE_ROWS * (POSITIONS + count + inputs) + VW) * LANES;
}

INLINE void image_tile(int rows, int columns, Image m, const float *delta, const float *const *value, int lines,
                       int again, float *sums, int64_t stride) {
  vec sum[TILE_ROWS][TILE_COLUMNS];
  const float *v[TILE_COLUMNS];
  UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < columns; c++)
    sum[r][c] = again ? *(const vec *)(sums + (r * stride + c) * LANES) : ZEROS;
  for (int line = 0; line < lines; line++) {
    UNROLL for (int c = 0; c < columns; c++) v[c] = value[c] + line * m.line * VW;
    for (int p = 0; p < m.count; p++, delta += rows * VW) {
      vec x[TILE_COLUMNS];
      UNROLL for (int c = 0; c < columns; c++) x[c] = *(const vec *)(v[c] + p * m.step * VW);
      UNROLL for (int r = 0; r < rows; r++) {
        vec y = *(const vec *)(delta + r * VW);
        HELD(y);
        UNROLL for (int c = 0; c < columns; c++) sum[r][c] = fused(y, x[c], sum[r][c]);
      }
    }
  }
  UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < columns; c++)
    *(vec *)(sums + (r * stride + c) * LANES) = sum[r][c];
}

/* sums[r][i][lane] of one vector of lanes */
INLINE void image_rows(int rows, Image m, Side delta, int j, const float *values, const int32_t *at, int lanes, int inputs,
                       float *packed, float *sums) {
  int some = (POSITIONS + m.count - 1) / m.count;
  for (int line = 0; line < m.lines; line += some) {
    int now = m.lines - line < some ? m.lines - line : some, i = 0;
    float *to = packed;
    for (int k = 0; k < now; k++)
      for (int p = 0; p < m.count; p++)
        UNROLL for (int r = 0; r < rows; r++, to += VW)
          *(vec *)to = *(const vec *)(delta.base + (j + r) * delta.row + (line + k) * delta.line + p * delta.step);
    for (; i + TILE_COLUMNS <= inputs; i += TILE_COLUMNS) {
      const float *v[TILE_COLUMNS];
      UNROLL for (int c = 0; c < TILE_COLUMNS; c++) v[c] = values + (at[i + c] / lanes + line * m.line) * VW;
      image_tile(rows, TILE_COLUMNS, m, packed, v, now, line > 0, sums + i * LANES, inputs);
    }
    for (; i < inputs; i++) {
      const float *v = values + (at[i] / lanes + line * m.line) * VW;
      image_tile(rows, 1, m, packed, &v, now, line > 0, sums + i * LANES, inputs);
    }
  }
}

#define IMAGE_ROWS(R) \
  case R: image_rows(R, m, shifted, j, values + lane * m.frame, at, lanes, inputs, packed, sums + lane); break;

/* gradient[j][i] += over blocks, over lanes, over positions rising, delta_j * value at at[i] */
static __attribute__((noinline)) void outer_in_image(float *gradient, float *space, int lanes, Image m, Side delta, int outputs, const float *value,
                           const int32_t *at, int inputs) {
  float *values = space, *packed = values + m.frame * LANES;
  float *sums = packed + TILE_ROWS * (POSITIONS + m.count) * LANES;
  int tiles = (outputs + TILE_ROWS - 1) / TILE_ROWS;
  for (int block = 0; block < lanes; block += LANES) {
    for (int lane = 0; lane < LANES; lane += VW)
      for (int64_t k = 0; k < m.frame; k++)
        *(vec *)(values + lane * m.frame + k * VW) = *(const vec *)(value + k * lanes + block + lane);
    for (int tile = 0, j = 0, rows; tile < tiles; tile++, j += rows) {
      rows = (outputs - j + tiles - tile - 1) / (tiles - tile); /* nearly as many in each */
      for (int lane = 0; lane < LANES; lane += VW) {
        Side shifted = delta;
        shifted.base += block + lane;
        switch (rows) {
          IMAGE_ROWS(1) IMAGE_ROWS(2) IMAGE_ROWS(3) IMAGE_ROWS(4) IMAGE_ROWS(5) IMAGE_ROWS(6)
        }
      }
      add_trees(gradient + (int64_t)j * inputs, sums, rows * inputs);
    }
  }
}

/* The same for time steps, which lie far apart: rows are packed first, so that a tile's values share no cache set. */

#define TALL 6 /* rows of a packed tile */
#if VW == 16
#define BROAD 4 /* and columns */
#else
#define BROAD 2
#endif
#define BOTH (2 * TALL) /* rows packed together */

/* packed[row / tile][time][row % tile][lane] = side's rows from `first` on; zeros where there is none */
static void pack(Side side, int first, int rows, int tile, int count, float *packed) {
  int whole = (rows + tile - 1) / tile * tile;
  for (int t = 0; t < count; t++)
    for (int k = 0; k < whole; k++) {
      float *to = packed + (((int64_t)(k / tile) * count + t) * tile + k % tile) * LANES;
      const float *from = side.base + (first + k) * side.row + t * side.step;
      for (int l = 0; l < LANES; l += VW) *(vec *)(to + l) = k < rows ? *(const vec *)(from + l) : (vec){0};
    }
}

INLINE void packed_tile(const float *delta, const float *value, int count, int rows, int columns, float *sums, int stride) {
  for (int lane = 0; lane < LANES; lane += VW) {
    vec sum[TALL][BROAD];
    UNROLL for (int r = 0; r < TALL; r++) UNROLL for (int c = 0; c < BROAD; c++) sum[r][c] = (vec){0};
    const float *d = delta + lane, *v = value + lane;
    for (int t = 0; t < count; t++, d += TALL * LANES, v += BROAD * LANES) {
      vec x[BROAD];
      UNROLL for (int c = 0; c < BROAD; c++) x[c] = *(const vec *)(v + c * LANES);
      UNROLL for (int r = 0; r < TALL; r++) {
        vec y = *(const vec *)(d + r * LANES);
        HELD(y);
        UNROLL for (int c = 0; c < BROAD; c++) sum[r][c] = fused(y, x[c], sum[r][c]);
      }
    }
    UNROLL for (int r = 0; r < TALL; r++) UNROLL for (int c = 0; c < BROAD; c++)
      if (r < rows && c < columns) *(vec *)(sums + (r * stride + c) * LANES + lane) = sum[r][c];
  }
}

static int64_t packed_floats(int outputs, int inputs, int count) {
  (void)outputs;
  return ((int64_t)(inputs + BROAD) * count + BOTH * count + TALL * (16 + VW)) * LANES;
}

/* gradient[j][i] += over blocks, over lanes, over time rising, delta_j * value_i; `space` as packed_floats says */
static void outer_in_time(float *gradient, float *space, int lanes, Side delta, int outputs, Side value, int inputs,
                          int count) {
  int together = inputs < 16 ? inputs : 16; /* columns whose trees go together */
  float *values = space, *deltas = values + (int64_t)(inputs + BROAD) * count * LANES;
  float *sums = deltas + (int64_t)BOTH * count * LANES;
  for (int block = 0; block < lanes; block += LANES, delta.base += LANES, value.base += LANES) {
    pack(value, 0, inputs, BROAD, count, values);
    for (int j = 0; j < outputs; j += BOTH) {
      int rows = outputs - j < BOTH ? outputs - j : BOTH;
      pack(delta, j, rows, TALL, count, deltas);
      for (int i = 0; i < inputs; i += together) {
        int columns = inputs - i < together ? inputs - i : together;
        for (int r = 0; r < rows; r += TALL) {
          int tall = rows - r < TALL ? rows - r : TALL;
          for (int c = 0; c < columns; c += BROAD)
            packed_tile(deltas + (int64_t)r * count * LANES, values + (int64_t)(i + c) * count * LANES, count, tall,
                        columns - c, sums + c * LANES, together);
          float *to = gradient + (int64_t)(j + r) * inputs + i;
          if (together == inputs)
            add_trees(to, sums, tall * inputs);
          else
            for (int k = 0; k < tall; k++) add_trees(to + (int64_t)k * inputs, sums + k * together * LANES, columns);
        }
      }
    }
  }
}

/* gradient[j] += over blocks, over lanes, over positions rising, delta at j * row + position * step */
static void over_positions(float *gradient, float *sums, int lanes, const float *delta, int64_t row, int64_t step,
                           int outputs, int count) {
  for (int block = 0; block < lanes; block += LANES) {
    for (int j = 0; j < outputs; j++)
      for (int k = 0; k < LANES; k += VW) {
        vec sum = (vec){0};
        for (int p = 0; p < count; p++) sum = sum + *(const vec *)(delta + j * row + p * step + block + k);
        *(vec *)(sums + j * LANES + k) = sum;
      }
    add_trees(gradient, sums, outputs);
  }
}

/* ---- rows of samples to rows of lanes, and back ---- */

#define ZIP_LOW(k, h) ((k) / 2 + (k) % 2 * VW)
#define ZIP_HIGH(k, h) ((k) / 2 + (k) % 2 * VW + VW / 2)

INLINE void zip(vec a, vec b, vec *low, vec *high) {
#if defined(__clang__)
  float in[2 * VW], out[2 * VW];
  memcpy(in, &a, sizeof a);
  memcpy(in + VW, &b, sizeof b);
  UNROLL for (int k = 0; k < VW; k++) out[k] = in[ZIP_LOW(k, 0)], out[k + VW] = in[ZIP_HIGH(k, 0)];
  memcpy(low, out, sizeof a);
  memcpy(high, out + VW, sizeof b);
#else
  *low = __builtin_shuffle(a, b, (ivec)EACH(ZIP_LOW, 0));
  *high = __builtin_shuffle(a, b, (ivec)EACH(ZIP_HIGH, 0));
#endif
}

/* out[c * out_step + r] = in[r * in_step + c] for r, c < VW */
INLINE void transpose_square(const float *in, int64_t in_step, float *out, int64_t out_step) {
  vec v[VW], w[VW];
  UNROLL for (int r = 0; r < VW; r++) v[r] = *(const loose_vec *)(in + r * in_step);
  for (int level = 1; level < VW; level *= 2) {
    UNROLL for (int r = 0; r < VW / 2; r++) zip(v[r], v[r + VW / 2], &w[2 * r], &w[2 * r + 1]);
    UNROLL for (int r = 0; r < VW; r++) v[r] = w[r];
  }
  UNROLL for (int c = 0; c < VW; c++) *(loose_vec *)(out + c * out_step) = v[c];
}
