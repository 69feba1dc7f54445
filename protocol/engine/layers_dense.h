/* linear, last and the elementwise layers; dropout and the norms. */
#pragma once
#include "program.h"

/* ---- linear ---- */

static void linear_forward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int n = layer->inputs, m = layer->outputs, lanes = plan->lanes;
  for (int t = 0; t < layer->length; t++)
    chains_from_bias(m, lanes, first + (int64_t)m * n,
                     weights(first, n, plan->activation[index] + (int64_t)t * n * lanes, lanes), none,
                     plan->activation[index + 1] + (int64_t)t * m * lanes);
}

/* One time step: gradient[j][i] goes on as one chain over samples, delta_j * input_i. Vectors run over inputs. */
static void linear_gradient(const Layer *layer, const Plan *plan, int index, float *gradient) {
  int n = layer->inputs, m = layer->outputs, lanes = plan->lanes, whole = n / VW * VW, rest = n - whole;
  int64_t row = (n + VW - 1) / VW * VW + VW; /* the odd vector keeps rows off one set of the cache */
  const float *values = plan->activation[index];
  float *samples = plan->partial; /* [sample][input] */
  for (int i = 0; i < whole; i += VW)
    for (int b = 0; b < lanes; b += VW)
      transpose_square(values + (int64_t)i * lanes + b, lanes, samples + b * row + i, row);
  for (int b = 0; b < lanes; b++)
    for (int i = whole; i < whole + VW; i++) samples[b * row + i] = i < n ? values[(int64_t)i * lanes + b] : 0.0f;
  Terms terms = {plan->delta, samples, lanes, 1, row, plan->valid, 0};
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

static void linear_backward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int n = layer->inputs, m = layer->outputs, lanes = plan->lanes, length = layer->length;
  float *gradient = plan->gradient + layer->offset;
  if (index > plan->lowest)
    for (int t = 0; t < length; t++)
      chains_from_zero(n, lanes, transposed(first, n, m, plan->delta + (int64_t)t * m * lanes, lanes),
                       plan->below + (int64_t)t * n * lanes);
  Side delta = {plan->delta, lanes, 0, (int64_t)m * lanes, 0};
  Side value = {plan->activation[index], lanes, 0, (int64_t)n * lanes, 0};
  if (length == 1)
    linear_gradient(layer, plan, index, gradient);
  else
    outer_in_time(gradient, plan->partial, lanes, delta, m, value, n, length);
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

static void elementwise_backward(const Layer *layer, const Plan *plan, int index) {
  const float *y = plan->activation[index + 1], *d = plan->delta;
  float *below = plan->below;
  int64_t count = values_of(layer, plan);
  if (layer->kind == RELU) EACH_VEC(k, count) AT(below, k) = where_positive(READ(y, k), READ(d, k));
  if (layer->kind == LEAKY)
    EACH_VEC(k, count) AT(below, k) = where(READ(y, k) > 0, READ(d, k), READ(d, k) * layer->number);
  if (layer->kind == TANH) EACH_VEC(k, count) AT(below, k) = READ(d, k) * (1.0f - READ(y, k) * READ(y, k));
  if (layer->kind == SIGMOID) EACH_VEC(k, count) AT(below, k) = READ(d, k) * (READ(y, k) * (1.0f - READ(y, k)));
}

static void last_forward(const Layer *layer, const Plan *plan, int index) {
  int64_t row = (int64_t)layer->inputs * plan->lanes;
  memcpy(plan->activation[index + 1], plan->activation[index] + (layer->length - 1) * row, sizeof(float) * row);
}

static void last_backward(const Layer *layer, const Plan *plan) {
  int64_t row = (int64_t)layer->inputs * plan->lanes;
  memset(plan->below, 0, sizeof(float) * row * (layer->length - 1));
  memcpy(plan->below + (layer->length - 1) * row, plan->delta, sizeof(float) * row);
}

/* ---- dropout: Philox4x32-10, counter (block, 0, step, 0), a row of blocks for each sample and time step ---- */

static void philox(const uint32_t *key, uint32_t step, const uint32_t block[LANES], uint32_t out[4][LANES]) {
  uint32_t a[LANES], b[LANES], c[LANES], d[LANES], key0 = key[0], key1 = key[1];
  for (int l = 0; l < LANES; l++) a[l] = block[l], b[l] = 0, c[l] = step, d[l] = 0;
  for (int round = 0; round < 10; round++) {
    for (int l = 0; l < LANES; l++) {
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
  memcpy(out[0], a, sizeof a), memcpy(out[1], b, sizeof b), memcpy(out[2], c, sizeof c), memcpy(out[3], d, sizeof d);
}

static void dropout_forward(const Layer *layer, const Plan *plan, int index) {
  const float *x = plan->activation[index];
  float *y = plan->activation[index + 1], *keep = plan->saved[index];
  int features = layer->outputs, lanes = plan->lanes, blocks = (features + 3) / 4;
  if (!plan->keys) {
    memcpy(y, x, sizeof(float) * values_of(layer, plan));
    return;
  }
  for (int lane = 0; lane < lanes; lane += LANES)
    for (int t = 0; t < layer->length; t++)
      for (int f = 0; f < features; f += 4) {
        uint32_t block[LANES], word[4][LANES];
        for (int l = 0; l < LANES; l++)
          block[l] = (uint32_t)((plan->first + lane + l) * layer->length + t) * (uint32_t)blocks + (uint32_t)(f / 4);
        philox(plan->keys + 2 * index, plan->step, block, word);
        for (int q = 0; q < 4 && f + q < features; q++)
          for (int l = 0; l < LANES; l++)
            keep[((int64_t)t * features + f + q) * lanes + lane + l] =
                (word[q][l] >> 8) >= layer->threshold ? layer->number : 0.0f;
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
  for (int t = 0; t < layer->length; t++)
    for (int g = 0; g < layer->groups; g++)
      EACH_VEC(k, lanes) {
        int64_t from = ((int64_t)t * features + g * size) * lanes + k;
        const float *x = plan->activation[index] + from;
        float *y = plan->activation[index + 1] + from, *s = scaled + from;
        vec sum = (vec){0}, squares = (vec){0};
        for (int f = 0; f < size; f++) sum = sum + READ(x, (int64_t)f * lanes);
        vec mean = sum / (float)size;
        for (int f = 0; f < size; f++) {
          vec centred = READ(x, (int64_t)f * lanes) - mean;
          squares = squares + centred * centred;
        }
        vec spread = squares / (float)size + layer->number, inverse;
        for (int l = 0; l < VW; l++) inverse[l] = 1.0f / sqrtf(spread[l]);
        AT(inverses, ((int64_t)t * layer->groups + g) * lanes + k) = inverse;
        for (int f = 0; f < size; f++) {
          int weight = (g * size + f) / layer->spatial;
          vec value = (READ(x, (int64_t)f * lanes) - mean) * inverse;
          AT(s, (int64_t)f * lanes) = value;
          AT(y, (int64_t)f * lanes) = value * first[weight] + first[weights_ + weight];
        }
      }
}

static void norm_backward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int lanes = plan->lanes, features = layer->outputs, size = features / layer->groups, weights_ = features / layer->spatial;
  const float *scaled = plan->saved[index], *inverses = scaled + values_of(layer, plan);
  for (int t = 0; index > plan->lowest && t < layer->length; t++)
    for (int g = 0; g < layer->groups; g++)
      EACH_VEC(k, lanes) {
        int64_t from = ((int64_t)t * features + g * size) * lanes + k;
        const float *d = plan->delta + from, *s = scaled + from;
        float *below = plan->below + from;
        vec sum = (vec){0}, product = (vec){0};
        for (int f = 0; f < size; f++) {
          vec through = READ(d, (int64_t)f * lanes) * first[(g * size + f) / layer->spatial];
          sum = sum + through;
          product = product + through * READ(s, (int64_t)f * lanes);
        }
        vec mean = sum / (float)size, slope = product / (float)size;
        vec inverse = READ(inverses, ((int64_t)t * layer->groups + g) * lanes + k);
        for (int f = 0; f < size; f++) {
          vec through = READ(d, (int64_t)f * lanes) * first[(g * size + f) / layer->spatial];
          AT(below, (int64_t)f * lanes) = ((through - mean) - READ(s, (int64_t)f * lanes) * slope) * inverse;
        }
      }
  float *gradient = plan->gradient + layer->offset, *sums = plan->partial;
  for (int block = 0; block < lanes; block += LANES)
    for (int of_bias = 0; of_bias < 2; of_bias++) {
      for (int weight = 0; weight < weights_; weight++)
        EACH_VEC(k, LANES) {
          vec sum = (vec){0};
          for (int t = 0; t < layer->length; t++)
            for (int p = 0; p < layer->spatial; p++) {
              int64_t at = ((int64_t)t * features + weight * layer->spatial + p) * lanes + block + k;
              vec d = READ(plan->delta, at);
              if (!of_bias) d = d * READ(scaled, at);
              sum = sum + d;
            }
          AT(sums, weight * LANES + k) = sum;
        }
      add_trees(gradient + of_bias * weights_, sums, weights_);
    }
}
