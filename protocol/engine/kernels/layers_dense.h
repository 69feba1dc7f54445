/* linear, last and the elementwise layers; dropout and the norms. */
#pragma once
#include "program.h"

/* ---- linear ---- */

/* A layer's time steps, rows of `from` values before and `to` values after. */
static Sweep steps_of(const Layer *layer, int lanes, int from, int to) {
  return MAKE(Sweep){1, layer->length, 0, (int64_t)from * lanes, 0, (int64_t)to * lanes};
}

static void linear_forward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int n = layer->inputs, m = layer->outputs, lanes = plan->lanes;
  sweep_from_bias(steps_of(layer, lanes, n, m), m, lanes, first + (int64_t)m * n,
                  weights(first, n, plan->activation[index], lanes), plan->activation[index + 1]);
}

static void linear_backward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int n = layer->inputs, m = layer->outputs, lanes = plan->lanes, length = layer->length;
  float *gradient = plan->gradient + layer->offset;
  if (index > plan->lowest)
    sweep_from_zero(steps_of(layer, lanes, m, n), n, lanes, transposed(first, n, m, plan->delta, lanes), plan->below);
  Side delta = {plan->delta, lanes, 0, (int64_t)m * lanes, 0};
  Side value = {plan->activation[index], lanes, 0, (int64_t)n * lanes, 0};
  if (length == 1)
    outer_over_samples(gradient, plan->partial, lanes, plan->valid, plan->delta, m, plan->activation[index], n);
  else
    outer_over_time(gradient, plan->partial, lanes, delta, m, value, n, length);
  over_positions(gradient + (int64_t)m * n, plan->partial, lanes, plan->delta, lanes, (int64_t)m * lanes, m, length);
}

/* ---- elementwise, and last ---- */

static int64_t values_of(const Layer *layer, const Plan *plan) {
  return (int64_t)layer->length * layer->outputs * plan->lanes;
}

static void elementwise_forward(const Layer *layer, const Plan *plan, int index) {
  const float *x = plan->activation[index];
  float *y = plan->activation[index + 1];
  int64_t count = values_of(layer, plan);
  if (layer->kind == RELU) EACH_VEC(k, count) AT(y, k) = where_positive(READ(x, k), READ(x, k));
  if (layer->kind == LEAKY) EACH_VEC(k, count) AT(y, k) = where(READ(x, k) > 0, READ(x, k), READ(x, k) * layer->number);
  if (layer->kind == TANH) EACH_VEC(k, count) AT(y, k) = tanh_exact(READ(x, k));
  if (layer->kind == SIGMOID) EACH_VEC(k, count) AT(y, k) = sigmoid_exact(READ(x, k));
}

/* Over what it reads: the derivative stays in its place. */
static void elementwise_backward(const Layer *layer, const Plan *plan, int index) {
  const float *y = plan->activation[index + 1], *d = plan->delta;
  float *below = plan->delta;
  int64_t count = values_of(layer, plan);
  if (layer->kind == RELU) EACH_VEC(k, count) AT(below, k) = where_positive(READ(y, k), READ(d, k));
  if (layer->kind == LEAKY)
    EACH_VEC(k, count) AT(below, k) = where(READ(y, k) > 0, READ(d, k), READ(d, k) * layer->number);
  if (layer->kind == TANH) EACH_VEC(k, count) AT(below, k) = READ(d, k) * slope_of_tanh(READ(y, k));
  if (layer->kind == SIGMOID) EACH_VEC(k, count) AT(below, k) = READ(d, k) * slope_of_sigmoid(READ(y, k));
}

static void last_forward(const Layer *layer, const Plan *plan, int index) {
  int64_t row = (int64_t)layer->inputs * plan->lanes;
  copy_floats(plan->activation[index + 1], plan->activation[index] + (layer->length - 1) * row, row);
}

static void last_backward(const Layer *layer, const Plan *plan) {
  int64_t row = (int64_t)layer->inputs * plan->lanes;
  fill_zero(plan->below, row * (layer->length - 1));
  copy_floats(plan->below + (layer->length - 1) * row, plan->delta, row);
}

/* ---- dropout: Philox4x32-10, counter (block, 0, step, 0), a row of blocks for each sample and time step ---- */

static void philox(const uint32_t *key, uint32_t step, const uint32_t block[DRAWS], uint32_t out[4][DRAWS]) {
  uint32_t a[DRAWS], b[DRAWS], c[DRAWS], d[DRAWS], key0 = key[0], key1 = key[1];
  for (int l = 0; l < DRAWS; l++) a[l] = block[l], b[l] = 0, c[l] = step, d[l] = 0;
  for (int round = 0; round < 10; round++) {
    for (int l = 0; l < DRAWS; l++) {
      uint64_t p = (uint64_t)a[l] * 0xD2511F53u, q = (uint64_t)c[l] * 0xCD9E8D57u;
      uint32_t was_b = b[l], was_d = d[l];
      a[l] = (uint32_t)(q >> 32) ^ was_b ^ key0;
      b[l] = (uint32_t)q;
      c[l] = (uint32_t)(p >> 32) ^ was_d ^ key1;
      d[l] = (uint32_t)p;
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  for (int l = 0; l < DRAWS; l++) out[0][l] = a[l], out[1][l] = b[l], out[2][l] = c[l], out[3][l] = d[l];
}

static void dropout_forward(const Layer *layer, const Plan *plan, int index) {
  const float *x = plan->activation[index];
  float *y = plan->activation[index + 1], *keep = plan->saved[index];
  int features = layer->outputs, lanes = plan->lanes, blocks = (features + 3) / 4;
  if (!plan->keys) {
    copy_floats(y, x, values_of(layer, plan));
    return;
  }
  EACH_ROW(row, layer->length * blocks, lanes) {
    int t = (int)row / blocks, f = (int)row % blocks * 4;
    EACH_DRAW(lane, lanes) {
      uint32_t block[DRAWS], word[4][DRAWS];
      for (int l = 0; l < DRAWS; l++)
        block[l] = (uint32_t)((plan->first + (int)lane + l) * layer->length + t) * (uint32_t)blocks + (uint32_t)(f / 4);
      philox(plan->keys + 2 * index, plan->step, block, word);
      for (int q = 0; q < 4 && f + q < features; q++)
        for (int l = 0; l < DRAWS; l++)
          keep[((int64_t)t * features + f + q) * lanes + lane + l] =
              (word[q][l] >> 8) >= layer->threshold ? layer->number : 0.0f;
    }
  }
  EACH_VEC(k, values_of(layer, plan)) AT(y, k) = READ(x, k) * READ(keep, k);
}

static void dropout_backward(const Layer *layer, const Plan *plan, int index) {
  EACH_VEC(k, values_of(layer, plan)) AT(plan->below, k) = READ(plan->delta, k) * READ(plan->saved[index], k);
}

/* ---- layernorm and groupnorm: groups of `size` features that follow each other ---- */

static void norm_forward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int lanes = plan->lanes, features = layer->outputs, size = features / layer->groups, weights_ = features / layer->spatial;
  float *scaled = plan->saved[index], *inverses = scaled + values_of(layer, plan);
  EACH_ROW(row, layer->length * layer->groups, lanes)
    EACH_LANE(k, lanes) {
      int64_t from = row * size * lanes + k, g = row % layer->groups;
      const float *x = plan->activation[index] + from;
      float *y = plan->activation[index + 1] + from, *s = scaled + from;
      vec sum = ZEROS, squares = ZEROS;
      for (int f = 0; f < size; f++) sum = sum + READ(x, (int64_t)f * lanes);
      vec mean = sum / (float)size;
      for (int f = 0; f < size; f++) {
        vec centred = READ(x, (int64_t)f * lanes) - mean;
        squares = fused(centred, centred, squares);
      }
      vec inverse = inverse_root(squares / (float)size + layer->number);
      AT(inverses, row * lanes + k) = inverse;
      for (int f = 0; f < size; f++) {
        int weight = (int)(g * size + f) / layer->spatial;
        vec value = (READ(x, (int64_t)f * lanes) - mean) * inverse;
        AT(s, (int64_t)f * lanes) = value;
        AT(y, (int64_t)f * lanes) = fused(value, all_lanes(first[weight]), all_lanes(first[weights_ + weight]));
      }
    }
}

static void norm_backward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int lanes = plan->lanes, features = layer->outputs, size = features / layer->groups, weights_ = features / layer->spatial;
  const float *scaled = plan->saved[index], *inverses = scaled + values_of(layer, plan);
  int rows = index > plan->lowest ? layer->length * layer->groups : 0;
  EACH_ROW(row, rows, lanes)
    EACH_LANE(k, lanes) {
      int64_t from = row * size * lanes + k, g = row % layer->groups;
      const float *d = plan->delta + from, *s = scaled + from;
      float *below = plan->below + from;
      vec sum = ZEROS, product = ZEROS;
      for (int f = 0; f < size; f++) {
        vec through = READ(d, (int64_t)f * lanes) * first[(g * size + f) / layer->spatial];
        sum = sum + through;
        product = fused(through, READ(s, (int64_t)f * lanes), product);
      }
      vec mean = sum / (float)size, slope = product / (float)size;
      vec inverse = READ(inverses, row * lanes + k);
      for (int f = 0; f < size; f++) {
        vec through = READ(d, (int64_t)f * lanes) * first[(g * size + f) / layer->spatial];
        AT(below, (int64_t)f * lanes) = fused(-READ(s, (int64_t)f * lanes), slope, through - mean) * inverse;
      }
    }
  float *gradient = plan->gradient + layer->offset, *sums = plan->partial;
  for (int block = 0; block < lanes; block += LANES)
    for (int of_bias = 0; of_bias < 2; of_bias++) {
      EACH_ROW(weight, weights_, LANES)
        EACH_LANE(k, LANES) {
          vec sum = ZEROS;
          for (int t = 0; t < layer->length; t++)
            for (int p = 0; p < layer->spatial; p++) {
              int64_t at = ((int64_t)t * features + weight * layer->spatial + p) * lanes + block + k;
              vec d = READ(plan->delta, at);
              if (of_bias) sum = sum + d;
              else sum = fused(d, READ(scaled, at), sum);
            }
          AT(sums, weight * LANES + k) = sum;
        }
      add_trees(gradient + of_bias * weights_, sums, weights_);
    }
}
