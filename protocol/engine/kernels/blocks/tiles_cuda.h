/* Sums over inputs, by a thread block: a matrix of outputs x lanes, cut into tiles. Each output of each lane is one chain,
   its terms in the order of lanes.h; which thread computes it, and with which others, changes no bit. */
#pragma once
#include "lanes_cuda.h"

/* ---- sums over inputs: a thread computes `rows` outputs of four lanes at one position ---- */

typedef struct { /* as in lanes.h */
  const float *weight, *value;
  int64_t row, column, step;
  int n;
  const int32_t *at;
  int64_t leap; /* from 16 terms' weights to the next 16, where that is not 16 columns */
} Terms;
enum Start { ZERO, BIAS, MEMORY, ADDED }; /* ADDED: a sum of its own, added to what `out` holds */
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

INLINE int place_of(Place p, int j) { return p.at ? p.at[j] : j * (int)p.step; }
INLINE int at_most(int a, int b) { return a < b ? a : b; }
INLINE int whole_quads(int n) { return (n + QUAD - 1) / QUAD * QUAD; }

/* sum[r][l] goes on over terms rising, weight of output first + r times value of lane l; DEEP terms at a time, whose loads
   do not wait for each other. */
INLINE void add_terms(int rows, Terms t, int first, const float *value, float sum[ROWS][QUAD]) {
  const float *weight = in_memory(t.weight) + first * t.row;
  value = in_memory(value);
  int i = 0;
  for (; i + DEEP <= t.n; i += DEEP) {
    float v[DEEP][QUAD], w[DEEP][ROWS];
    UNROLL for (int u = 0; u < DEEP; u++) load_quad(value + (t.at ? t.at[i + u] : u * t.step), v[u]);
    UNROLL for (int u = 0; u < DEEP; u++) UNROLL for (int r = 0; r < rows; r++) w[u][r] = weight[r * t.row + u * t.column];
    UNROLL for (int u = 0; u < DEEP; u++) UNROLL for (int r = 0; r < rows; r++)
      UNROLL for (int l = 0; l < QUAD; l++) sum[r][l] = fused(v[u][l], w[u][r], sum[r][l]);
    weight += DEEP * t.column;
    if (!t.at) value += DEEP * t.step;
  }
  for (; i < t.n; i++) {
    float v[QUAD];
    load_quad(t.at ? value + t.at[i] : value, v);
    UNROLL for (int r = 0; r < rows; r++) {
      float w = weight[r * t.row];
      UNROLL for (int l = 0; l < QUAD; l++) sum[r][l] = fused(v[l], w, sum[r][l]);
    }
    weight += t.column;
    if (!t.at) value += t.step;
  }
}

/* ---- tiles: the block computes `rows` outputs x four lanes a thread, from terms that it holds in shared memory ---- */

typedef struct { /* chains at lines x count positions; see swept() */
  Sweep s;
  int outputs, lanes;
  enum Start start;
  const float *bias;
  Terms a, b;
  Place place;
} Chains;

typedef struct { /* where a thread's four lanes are, among all positions' lanes in a row */
  int lane, inside, value, out;
} Column;

INLINE Column column_of(const Chains *c, int k) {
  int row = whole_quads(c->lanes), position = k / row, lane = k % row;
  int line = position / c->s.count, p = position % c->s.count;
  Column at = {lane, position < c->s.lines * c->s.count, line * (int)c->s.value_line + p * (int)c->s.value_step + lane,
               line * (int)c->s.out_line + p * (int)c->s.out_step + lane};
  return at;
}

INLINE void add_round(int rows, const float *weight, const float *value, float sum[ROWS][QUAD]) {
  float v[QUAD], w[ROWS];
  load_quad(value, v);
  if (rows % QUAD == 0)
    UNROLL for (int r = 0; r < rows; r += QUAD) load_quad(weight + r, w + r);
  else
    UNROLL for (int r = 0; r < rows; r++) w[r] = weight[r];
  UNROLL for (int r = 0; r < rows; r++) UNROLL for (int l = 0; l < QUAD; l++) sum[r][l] = fused(v[l], w[r], sum[r][l]);
}

INLINE void start_sums(int rows, const Chains *c, int first, Column at, float sum[ROWS][QUAD]) {
  UNROLL for (int r = 0; r < rows; r++) UNROLL for (int l = 0; l < QUAD; l++) {
    int j = first + r, mine = at.inside && j < c->outputs && at.lane + l < c->lanes;
    sum[r][l] = 0.0f;
    if (c->start == BIAS) sum[r][l] = in_memory(c->bias)[at_most(j, c->outputs - 1)];
    if (c->start == MEMORY && mine) sum[r][l] = in_memory(c->place.out)[place_of(c->place, j) + at.out + l];
  }
}

INLINE void write_sums(int rows, const Chains *c, int first, Column at, float sum[ROWS][QUAD]) {
  UNROLL for (int r = 0; r < rows; r++) if (at.inside && first + r < c->outputs) {
    float *to = in_memory(c->place.out) + place_of(c->place, first + r) + at.out;
    if (c->start == ADDED)
      UNROLL for (int l = 0; l < QUAD; l++) if (at.lane + l < c->lanes) sum[r][l] = to[l] + sum[r][l];
    store_quad(to, sum[r], c->lanes - at.lane);
  }
}

typedef struct { /* two rounds of terms: one is read while the next comes */
  float weight[2][DEPTH][HEIGHT], value[2][DEPTH][COLUMNS];
} Rounds;

/* The sums of a tile go on over one kind of terms, DEPTH of them a round: the card copies a round's weights and values to
   shared memory while the block computes the round before. `values`: of this thread's four lanes, if there are any. */
INLINE void add_rounds(int rows, int quads, Rounds *in, int *turn, Terms t, const float *values, int top, int outputs,
                       float sum[ROWS][QUAD]) {
  int high = THREADS / quads * rows, quad = THREAD % quads, group = THREAD / quads, along = t.column == 1, n = t.n;
  int down = along ? THREAD / DEPTH : THREAD % high, deep = along ? THREAD % DEPTH : THREAD / high; /* its first weight */
  int each = along ? THREADS / DEPTH : THREADS / high, leap = t.leap ? (int)(t.leap - DEPTH) : DEPTH * (int)t.column;
  int row = (int)t.row, column = (int)t.column, step = (int)t.step, down_max = outputs - 1 - top, next = 0;
  const float *weights = in_memory(t.weight) + (int64_t)top * row + deep * column;
  const int32_t *at = t.at;
  for (int left = n + DEPTH; left > 0; left -= DEPTH) { /* of the round that is computed, after one that is only copied */
    if (next < n) {
      int into = *turn ^ 1;
      UNROLL for (int e = 0; e * quads < rows * DEPTH; e++) { /* along: `each` rows further; else as many terms further */
        int j = along ? at_most(down + e * each, down_max) : at_most(down, down_max), k = along ? deep : deep + e * each;
        if (k < DEPTH && next + k < n && down < high)
          COPY_ONE(&in->weight[into][k][along ? down + e * each : down], weights + j * row + (along ? 0 : e * each * column));
      }
      UNROLL for (int e = 0; e * THREADS < quads * DEPTH; e++) {
        int k = group + e * (THREADS / quads), i = next + k;
        if (k < DEPTH && i < n && values) COPY_FOUR(&in->value[into][k][quad * QUAD], values + (at ? at[i] : i * step));
      }
      next += DEPTH;
      weights += next % LANES ? DEPTH * column : leap;
    }
    if (left <= n) {
      const float *w = in->weight[*turn][0] + group * rows, *v = in->value[*turn][0] + quad * QUAD;
      if (left >= DEPTH)
        UNROLL for (int i = 0; i < DEPTH; i++) add_round(rows, w + i * HEIGHT, v + i * COLUMNS, sum);
      else
        for (int i = 0; i < left; i++) add_round(rows, w + i * HEIGHT, v + i * COLUMNS, sum);
    }
    if (left > DEPTH) {
      COPIES_END;
      SYNC;
      *turn ^= 1;
    }
  }
}

/* The block's tiles of `high` outputs x `quads` quads of lanes, one after another. */
INLINE void tiles(int rows, int quads, const Chains *c, Rounds *in) {
  int high = THREADS / quads * rows, quad = THREAD % quads, group = THREAD / quads, turn = 0;
  int columns = whole_quads(c->lanes) * c->s.lines * c->s.count;
  for (int left = 0; left < columns; left += quads * QUAD) {
    Column at = column_of(c, left + quad * QUAD);
    for (int top = 0; top < c->outputs; top += high) {
      float sum[ROWS][QUAD];
      start_sums(rows, c, top + group * rows, at, sum);
      for (int part = 0; part < 2; part++) {
        Terms t = part ? c->b : c->a;
        const float *values = at.inside ? in_memory(t.value) + (part ? at.lane : at.value) : 0;
        add_rounds(rows, quads, in, &turn, t, values, top, c->outputs, sum);
      }
      write_sums(rows, c, top + group * rows, at, sum);
    }
  }
  SYNC;
}

/* How many outputs a thread computes together: few if the threads would not all have some, many to read shared memory
   seldom. */
static int rows_together(int outputs, uint32_t others, int most) {
  int best = 1;
  uint32_t least = 0xffffffffu;
  for (int rows = most; rows; rows /= 2) {
    uint32_t turns = ((uint32_t)(outputs + rows - 1) / rows * others + THREADS - 1) / THREADS, cost = turns * (rows + 1);
    if (cost < least) best = rows, least = cost;
  }
  return best;
}

/* out_j = start + terms of a + terms of b, for all positions, outputs and lanes */
APART static void swept(Sweep s, int outputs, int lanes, enum Start start, const float *bias, Terms a, Terms b, Place place) {
  SHARED ALIGNED_16 Rounds rounds;
  Chains c = {s, outputs, lanes, start, bias, a, b, place};
  int few = whole_quads(lanes) * s.lines * s.count < COLUMNS - LANES, quads = few ? LANES / QUAD : COLUMNS / QUAD;
  int rows = rows_together(outputs, quads, few ? 4 : 8);
  if (few) {
    if (rows == 4) tiles(4, LANES / QUAD, &c, &rounds);
    else if (rows == 2) tiles(2, LANES / QUAD, &c, &rounds);
    else tiles(1, LANES / QUAD, &c, &rounds);
  } else {
    if (rows == 8) tiles(8, COLUMNS / QUAD, &c, &rounds);
    else if (rows == 4) tiles(4, COLUMNS / QUAD, &c, &rounds);
    else if (rows == 2) tiles(2, COLUMNS / QUAD, &c, &rounds);
    else tiles(1, COLUMNS / QUAD, &c, &rounds);
  }
}

#define none no_terms()
static Terms no_terms(void) {
  Terms t = {0, 0, 0, 0, 0, 0, 0, 0};
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
        add_terms(rows, here, first, a.value + line * s.value_line + p * s.value_step + lane, sum);
      }
    UNROLL for (int r = 0; r < rows; r++)
      if (first + r >= top) store_quad(to + (first + r) * plane + (int64_t)place * lanes + lane, sum[r], QUAD);
  }
}

APART static void sweep_onto_windows(Sweep s, Windows w, int lanes, Terms a, float *to, const int32_t *at) {
  (void)at;
  int rows = rows_together(w.channels, (uint32_t)lanes / QUAD * w.height * w.width, 4);
  if (rows == 4)
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
