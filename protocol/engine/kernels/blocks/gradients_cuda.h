/* Sums over samples and positions, by a thread block: weight gradients. */
#pragma once
#include "tiles_cuda.h"

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

INLINE int side_row(Side s, int k) { return s.at ? s.at[k] : k * (int)s.row; }

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
    int d[TILE], v[TILE];
    UNROLL for (int r = 0; r < TILE; r++) d[r] = side_row(delta, at_most(j + r, outputs - 1)) + lane;
    UNROLL for (int c = 0; c < TILE; c++) v[c] = side_row(value, at_most(i + c, inputs - 1)) + lane;
    int mine = begin + THREAD < items && row < outputs && column < inputs;
    float total = mine ? gradient[(int64_t)row * inputs + column] : 0.0f;
    for (int block = 0; block < lanes; block += LANES) {
      float sum[TILE * TILE];
      UNROLL for (int k = 0; k < TILE * TILE; k++) sum[k] = 0.0f;
      for (int line = 0; line < lines; line++) {
        const float *at_d = in_memory(delta.base) + line * delta.line + block, *at_v = in_memory(value.base) + line * value.line + block;
        UNROLL_BY_4 for (int p = 0; p < count; p++, at_d += delta.step, at_v += value.step) {
          float x[TILE], y[TILE];
          UNROLL for (int c = 0; c < TILE; c++) x[c] = at_v[v[c]];
          UNROLL for (int r = 0; r < TILE; r++) y[r] = at_d[d[r]];
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
      UNROLL_BY_4 for (int p = 0; p < count; p++) sum = sum + in_memory(delta)[j * row + p * step + block + k];
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

/* gradient[j][i] += over blocks, one chain over time rising, then samples rising */
APART static void outer_over_steps(float *gradient, float *scratch, int lanes, Side delta, int m, Side value, int n,
                             int length) {
  int row = whole_quads(n);
  for (int block = 0; block < lanes; block += LANES) {
    EACH_ROW(b, length * LANES, n) EACH_LANE(i, n)
      scratch[b * row + i] = value.base[b / LANES * value.step + i * value.row + block + b % LANES];
    Terms terms = {delta.base + block, scratch, delta.row, 1, row, LANES * length, 0, delta.step};
    chains(m, n, ADDED, 0, terms, none, at_rows(gradient, n)); /* inputs take the place of lanes */
  }
}
static int64_t steps_floats(int outputs, int inputs, int length) {
  return 0 * outputs + (int64_t)length * LANES * whole_quads(inputs);
}
