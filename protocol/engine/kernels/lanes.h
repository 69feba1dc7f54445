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

#if VW == 16
#define HALF (VW / 2) /* half a vector takes half the time, or leaves a unit to others */
typedef float loose_half __attribute__((vector_size(4 * HALF), may_alias, aligned(4)));

INLINE void half_tile(int rows, enum Start start, Terms t, Place place) {
  __m256 sum[ROWS];
  UNROLL for (int j = 0; j < rows; j++)
    sum[j] = start == ZERO ? (__m256){0} : (__m256)*(const loose_half *)(place.out + j * place.step);
  for (int i = 0; i < t.n; i++) {
    __m256 v = (__m256)*(const loose_half *)(t.value + i * t.step);
    UNROLL for (int j = 0; j < rows; j++)
      sum[j] = _mm256_fmadd_ps(v, _mm256_set1_ps(t.weight[j * t.row + i * t.column]), sum[j]);
  }
  UNROLL for (int j = 0; j < rows; j++) *(loose_half *)(place.out + j * place.step) = (loose_half)sum[j];
}

/* chains from zero or onto what `place` holds, for half a vector of lanes */
INLINE void half_chains(int outputs, enum Start start, Terms a, Place place) {
  int j = 0;
  for (; j + ROWS <= outputs; j += ROWS) half_tile(ROWS, start, shifted(a, j, 0), shifted_place(place, j, 0));
  for (; j + 4 <= outputs; j += 4) half_tile(4, start, shifted(a, j, 0), shifted_place(place, j, 0));
  for (; j < outputs; j++) half_tile(1, start, shifted(a, j, 0), shifted_place(place, j, 0));
}
#endif

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

/* One level of the tree for two vectors: lanes that are 8, 4, 2 or 1 apart are added, and a's sums precede b's in each
   quarter (level 4 and more: in each half or all) of the vector. Such shuffles are one instruction each. */
#if VW == 16
#define FOLD8(a, b) \
  (SHUFFLE(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) + \
   SHUFFLE(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#define FOLD4(a, b) \
  (SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) + \
   SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31))
#define FOLD2(a, b) \
  (SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) + \
   SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
#define FOLD1(a, b) \
  (SHUFFLE(a, b, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) + \
   SHUFFLE(a, b, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31))
#elif VW == 8
#define FOLD4(a, b) (SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15))
#define FOLD2(a, b) (SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13) + SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15))
#define FOLD1(a, b) (SHUFFLE(a, b, 0, 2, 8, 10, 4, 6, 12, 14) + SHUFFLE(a, b, 1, 3, 9, 11, 5, 7, 13, 15))
#else
#define FOLD2(a, b) (SHUFFLE(a, b, 0, 1, 4, 5) + SHUFFLE(a, b, 2, 3, 6, 7))
#define FOLD1(a, b) (SHUFFLE(a, b, 0, 2, 4, 6) + SHUFFLE(a, b, 1, 3, 5, 7))
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
  UNROLL for (int k = 0; k < 4; k++) v[k] = FOLD8(v[k], v[k + 4]), v[k + 8] = FOLD8(v[k + 8], v[k + 12]);
  UNROLL for (int k = 0; k < 4; k++) v[k] = FOLD4(v[k], v[k + 8]);
#elif VW == 8
  UNROLL for (int k = 0; k < 4; k++) v[k] = FOLD4(v[k], v[k + 4]);
#endif
  v[0] = FOLD2(v[0], v[1]), v[2] = FOLD2(v[2], v[3]);
  return FOLD1(v[0], v[2]);
}

/* gradient[k] += tree of sums[k]; `sums` has room for a whole vector of sums behind the last */
static void add_trees(float *gradient, float *sums, int count) {
  int k = 0;
  for (; k + VW <= count; k += VW) {
    loose_vec *to = (loose_vec *)(gradient + k);
    *to = *to + tree(sums + (int64_t)k * LANES);
  }
  vec add = k < count ? tree(sums + (int64_t)k * LANES) : ZEROS;
  for (int q = 0; k + q < count; q++) gradient[k + q] = gradient[k + q] + add[q];
}

/* gradient[r][i] += tree of sums[i][r] */
static void add_trees_across(float *gradient, int64_t row, float *sums, int rows, int columns) {
  for (int k = 0; k < rows * columns; k += VW) *(loose_vec *)(sums + k) = tree(sums + (int64_t)k * LANES);
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < columns; i++) gradient[r * row + i] = gradient[r * row + i] + sums[i * rows + r];
}

typedef struct { /* row k at position p is base[(at ? at[k] : k * row) + line of p * line + place of p * step] */
  const float *base;
  int64_t row, line, step;
  const int32_t *at;
} Side;

INLINE const float *side_row(Side s, int k) { return s.base + (s.at ? s.at[k] : k * s.row); }

/* Over an image. A vector of lanes at a time, values are packed whole, and deltas for some positions, [position][row], so
   that a tile reads what lies together. Its sums are [column][row][lane]. */

#define POSITIONS 64 /* worked on together, with so many taps: their values and sums stay in the first-level cache */
#define TAPS 32

typedef struct { /* lines x count positions; of the values of a lane there are `frame`, line and step apart */
  int lines, count;
  int64_t frame, line, step;
} Image;

static int64_t image_floats(int64_t frame, int inputs, int positions) {
  return (frame + TILE_ROWS * (positions + TAPS) + VW) * LANES + positions + inputs;
}

INLINE void image_tile(int rows, int columns, const int32_t *place, int count, const float *delta, const float *values,
                       const int32_t *tap, int again, float *sums) {
  vec sum[TILE_COLUMNS][TILE_ROWS];
  const float *v[TILE_COLUMNS];
  UNROLL for (int c = 0; c < columns; c++) v[c] = values + tap[c];
  UNROLL for (int c = 0; c < columns; c++) UNROLL for (int r = 0; r < rows; r++)
    sum[c][r] = again ? *(const vec *)(sums + (c * rows + r) * LANES) : ZEROS;
  for (int p = 0; p < count; p++, delta += rows * VW) {
    vec x[TILE_COLUMNS];
    UNROLL for (int c = 0; c < columns; c++) x[c] = *(const vec *)(v[c] + place[p]);
    UNROLL for (int r = 0; r < rows; r++) {
      vec y = *(const vec *)(delta + r * VW);
      HELD(y);
      UNROLL for (int c = 0; c < columns; c++) sum[c][r] = fused(y, x[c], sum[c][r]);
    }
  }
  UNROLL for (int c = 0; c < columns; c++) UNROLL for (int r = 0; r < rows; r++)
    *(vec *)(sums + (c * rows + r) * LANES) = sum[c][r];
}

/* One vector of lanes of `rows` rows of the gradient. */
INLINE void image_rows(int rows, const int32_t *place, int positions, const float *packed, const float *values,
                       const int32_t *tap, int taps, float *sums) {
  for (int first = 0; first < positions; first += POSITIONS, packed += POSITIONS * rows * VW) {
    int some = positions - first < POSITIONS ? positions - first : POSITIONS, i = 0;
    for (; i + TILE_COLUMNS <= taps; i += TILE_COLUMNS)
      image_tile(rows, TILE_COLUMNS, place + first, some, packed, values, tap + i, first, sums + i * rows * LANES);
    for (; i < taps; i++) image_tile(rows, 1, place + first, some, packed, values, tap + i, first, sums + i * rows * LANES);
  }
}

#define IMAGE_ROWS(R) \
  case R: image_rows(R, place, positions, packed + lane * R * positions, values + lane * m.frame, tap + i, some, sums + lane); break;

/* gradient[j][i] += over blocks, over lanes, over positions rising, delta_j * value at at[i] */
static void outer_in_image(float *gradient, float *space, int lanes, Image m, Side delta, int outputs, const float *value,
                           const int32_t *at, int inputs) {
  int tiles = (outputs + TILE_ROWS - 1) / TILE_ROWS, positions = m.lines * m.count;
  float *values = space, *packed = values + m.frame * LANES, *sums = packed + TILE_ROWS * positions * LANES;
  int32_t *place = (int32_t *)(sums + (TILE_ROWS * TAPS + VW) * LANES), *tap = place + positions;
  for (int p = 0; p < positions; p++) place[p] = (int32_t)((p / m.count * m.line + p % m.count * m.step) * VW);
  for (int i = 0; i < inputs; i++) tap[i] = at[i] / lanes * VW;
  for (int block = 0; block < lanes; block += LANES) {
    for (int lane = 0; lane < LANES; lane += VW)
      for (int64_t k = 0; k < m.frame; k++)
        *(vec *)(values + lane * m.frame + k * VW) = *(const vec *)(value + k * lanes + block + lane);
    for (int tile = 0, j = 0, rows; tile < tiles; tile++, j += rows) {
      rows = (outputs - j + tiles - tile - 1) / (tiles - tile); /* nearly as many in each */
      float *to = packed;
      for (int lane = 0; lane < LANES; lane += VW)
        for (int p = 0; p < positions; p++)
          for (int r = 0; r < rows; r++, to += VW)
            *(vec *)to = *(const vec *)(delta.base + (j + r) * delta.row + p * delta.step + block + lane);
      for (int i = 0, some; i < inputs; i += TAPS) {
        some = inputs - i < TAPS ? inputs - i : TAPS;
        for (int lane = 0; lane < LANES; lane += VW) switch (rows) {
            IMAGE_ROWS(1) IMAGE_ROWS(2) IMAGE_ROWS(3) IMAGE_ROWS(4) IMAGE_ROWS(5) IMAGE_ROWS(6)
          }
        add_trees_across(gradient + (int64_t)j * inputs + i, inputs, sums, rows, some);
      }
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
    UNROLL for (int r = 0; r < TALL; r++) UNROLL for (int c = 0; c < columns; c++) sum[r][c] = (vec){0};
    const float *d = delta + lane, *v = value + lane;
    for (int t = 0; t < count; t++, d += TALL * LANES, v += BROAD * LANES) {
      vec x[BROAD];
      UNROLL for (int c = 0; c < columns; c++) x[c] = *(const vec *)(v + c * LANES);
      UNROLL for (int r = 0; r < TALL; r++) {
        vec y = *(const vec *)(d + r * LANES);
        HELD(y);
        UNROLL for (int c = 0; c < columns; c++) sum[r][c] = fused(y, x[c], sum[r][c]);
      }
    }
    UNROLL for (int r = 0; r < TALL; r++) UNROLL for (int c = 0; c < columns; c++)
      if (r < rows) *(vec *)(sums + (r * stride + c) * LANES + lane) = sum[r][c];
  }
}

static int64_t packed_floats(int inputs, int count) {
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
          const float *d = deltas + (int64_t)r * count * LANES, *v = values + (int64_t)i * count * LANES;
          int c = 0;
          for (; c + BROAD <= columns; c += BROAD)
            packed_tile(d, v + (int64_t)c * count * LANES, count, tall, BROAD, sums + c * LANES, together);
          v += (int64_t)c * count * LANES;
          if (columns - c == 1) packed_tile(d, v, count, tall, 1, sums + c * LANES, together);
#if BROAD > 2
          if (columns - c == 2) packed_tile(d, v, count, tall, 2, sums + c * LANES, together);
          if (columns - c == 3) packed_tile(d, v, count, tall, 3, sums + c * LANES, together);
#endif
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

#if VW == 16
#define ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VW == 8
#define ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define ZIP_LOW 0, 4, 1, 5
#define ZIP_HIGH 2, 6, 3, 7
#endif

/* out[c * out_step + r] = in[r * in_step + c] for r, c < VW */
INLINE void transpose_square(const float *in, int64_t in_step, float *out, int64_t out_step) {
  vec v[VW], w[VW];
  UNROLL for (int r = 0; r < VW; r++) v[r] = *(const loose_vec *)(in + r * in_step);
  for (int level = 1; level < VW; level *= 2) {
    UNROLL for (int r = 0; r < VW / 2; r++) {
      w[2 * r] = SHUFFLE(v[r], v[r + VW / 2], ZIP_LOW);
      w[2 * r + 1] = SHUFFLE(v[r], v[r + VW / 2], ZIP_HIGH);
    }
    UNROLL for (int r = 0; r < VW; r++) v[r] = w[r];
  }
  UNROLL for (int c = 0; c < VW; c++) *(loose_vec *)(out + c * out_step) = v[c];
}
