/* gru, lstm and rnn: a chain over inputs and the state before, at each time step. */
#pragma once
#include "program.h"

typedef struct {
  const float *weight_ih, *weight_hh, *bias_ih, *bias_hh;
  int64_t offset_hh, offset_bias_ih, offset_bias_hh; /* from the layer's first parameter */
} Cell;

static Cell cell_of(const Layer *l, const float *first) {
  int64_t n = l->inputs, h = l->outputs, rows = gates_of(l) * h, hh = rows * n, bi = hh + rows * h, bh = bi + rows;
  return MAKE(Cell){first, first + hh, first + bi, first + bh, hh, bi, bh};
}

static void gru_forward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int n = layer->inputs, h = layer->outputs, lanes = plan->lanes;
  int64_t H = (int64_t)h * lanes;
  Cell w = cell_of(layer, first);
  float *hidden = plan->activation[index + 1] - H; /* row 0: before the first step */
  fill_zero(hidden, H);
  EACH_ITEM(j, 2 * h) plan->bias[j] = w.bias_ih[j] + w.bias_hh[j];
  for (int t = 0; t < layer->length; t++) {
    const float *x = plan->activation[index] + (int64_t)t * n * lanes, *before = hidden + t * H;
    float *R = plan->saved[index] + t * 4 * H, *Z = R + H, *N = Z + H, *G = N + H, *after = hidden + (t + 1) * H;
    chains_from_bias(2 * h, lanes, plan->bias, weights(w.weight_ih, n, x, lanes), weights(w.weight_hh, h, before, lanes), R);
    chains_from_bias(h, lanes, w.bias_ih + 2 * h, weights(w.weight_ih + 2 * h * n, n, x, lanes), none, N);
    chains_from_bias(h, lanes, w.bias_hh + 2 * h, weights(w.weight_hh + 2 * h * h, h, before, lanes), none, G);
    EACH_VEC(k, 2 * H) AT(R, k) = sigmoid_exact(AT(R, k));
    EACH_VEC(k, H) {
      vec r = AT(R, k), z = AT(Z, k), n_ = tanh_exact(fused(r, AT(G, k), AT(N, k)));
      AT(N, k) = n_;
      AT(after, k) = fused(z, READ(before, k) - n_, n_);
    }
  }
}

static void lstm_forward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int n = layer->inputs, h = layer->outputs, lanes = plan->lanes;
  int64_t H = (int64_t)h * lanes;
  Cell w = cell_of(layer, first);
  float *hidden = plan->activation[index + 1] - H, *cells = plan->saved[index]; /* rows 0: before the first step */
  fill_zero(hidden, H);
  fill_zero(cells, H);
  EACH_ITEM(j, 4 * h) plan->bias[j] = w.bias_ih[j] + w.bias_hh[j];
  for (int t = 0; t < layer->length; t++) {
    const float *x = plan->activation[index] + (int64_t)t * n * lanes, *before = hidden + t * H;
    float *c = cells + t * 6 * H, *I = c + H, *F = I + H, *G = F + H, *O = G + H, *T = O + H, *next = T + H;
    chains_from_bias(4 * h, lanes, plan->bias, weights(w.weight_ih, n, x, lanes), weights(w.weight_hh, h, before, lanes), I);
    EACH_VEC(k, H) {
      vec i = sigmoid_exact(AT(I, k)), f = sigmoid_exact(AT(F, k)), g = tanh_exact(AT(G, k)), o = sigmoid_exact(AT(O, k));
      vec now = fused(i, g, f * AT(c, k)), squashed = tanh_exact(now);
      AT(I, k) = i, AT(F, k) = f, AT(G, k) = g, AT(O, k) = o, AT(T, k) = squashed, AT(next, k) = now;
      AT(hidden, (t + 1) * H + k) = o * squashed;
    }
  }
}

static void rnn_forward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int n = layer->inputs, h = layer->outputs, lanes = plan->lanes;
  int64_t H = (int64_t)h * lanes;
  Cell w = cell_of(layer, first);
  float *hidden = plan->activation[index + 1] - H;
  fill_zero(hidden, H);
  EACH_ITEM(j, h) plan->bias[j] = w.bias_ih[j] + w.bias_hh[j];
  for (int t = 0; t < layer->length; t++) {
    float *before = hidden + t * H, *after = before + H;
    const float *x = plan->activation[index] + (int64_t)t * n * lanes;
    chains_from_bias(h, lanes, plan->bias, weights(w.weight_ih, n, x, lanes), weights(w.weight_hh, h, before, lanes), after);
    EACH_VEC(k, H) AT(after, k) = tanh_exact(AT(after, k));
  }
}

/* One time step back: from d, the derivative by this step's output, to the derivatives by the gates before their
   squashing, written over the gates, and what is left for the state before. */

INLINE void gru_gates_back(int64_t H, float *R, const float *before, const float *carry, const float *delta, float *next) {
  float *Z = R + H, *N = Z + H, *G = N + H;
  EACH_VEC(k, H) {
    vec r = AT(R, k), z = AT(Z, k), n = AT(N, k), g = AT(G, k), d = READ(carry, k) + READ(delta, k);
    vec dn = (d * (1.0f - z)) * slope_of_tanh(n);
    vec dz = (d * (READ(before, k) - n)) * slope_of_sigmoid(z);
    AT(R, k) = (dn * g) * slope_of_sigmoid(r);
    AT(Z, k) = dz;
    AT(N, k) = dn;
    AT(G, k) = dn * r;
    AT(next, k) = d * z;
  }
}

INLINE void lstm_gates_back(int64_t H, float *c, float *cell, const float *carry, const float *delta) {
  float *I = c + H, *F = I + H, *G = F + H, *O = G + H, *T = O + H;
  EACH_VEC(k, H) {
    vec i = AT(I, k), f = AT(F, k), g = AT(G, k), o = AT(O, k), squashed = AT(T, k);
    vec d = READ(carry, k) + READ(delta, k);
    vec dc = fused(d * o, slope_of_tanh(squashed), AT(cell, k));
    AT(I, k) = (dc * g) * slope_of_sigmoid(i);
    AT(F, k) = (dc * AT(c, k)) * slope_of_sigmoid(f);
    AT(G, k) = (dc * i) * slope_of_tanh(g);
    AT(O, k) = (d * squashed) * slope_of_sigmoid(o);
    AT(cell, k) = dc * f;
  }
}

static Side rows_in_time(const float *base, int64_t step, int lanes) { return MAKE(Side){base, lanes, 0, step, 0}; }

static void recurrent_backward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int n = layer->inputs, h = layer->outputs, lanes = plan->lanes, length = layer->length, rows = gates_of(layer) * h;
  int64_t H = (int64_t)h * lanes, step = layer->kind == GRU ? 4 * H : layer->kind == LSTM ? 6 * H : H;
  Cell w = cell_of(layer, first);
  const float *hidden = plan->activation[index + 1] - H, *values = plan->activation[index];
  float *carry = plan->carry, *next = plan->carry_next;
  float *gates = layer->kind == GRU ? plan->saved[index] : layer->kind == LSTM ? plan->saved[index] + H : plan->delta;
  fill_zero(carry, H);
  fill_zero(plan->cell, H);
  for (int t = length - 1; t >= 0; t--) {
    const float *before = hidden + t * H, *delta = plan->delta + t * H;
    float *now = gates + t * step;
    if (layer->kind == GRU) gru_gates_back(H, now, before, carry, delta, next);
    if (layer->kind == LSTM) lstm_gates_back(H, now - H, plan->cell, carry, delta);
    if (layer->kind == RNN) EACH_VEC(k, H) {
        vec y = READ(before, H + k);
        AT(now, k) = (READ(carry, k) + READ(delta, k)) * slope_of_tanh(y);
      }
    if (t && layer->kind == GRU)
      chains_onto(h, lanes, transposed(w.weight_hh, h, 2 * h, now, lanes),
                  transposed(w.weight_hh + 2 * h * h, h, h, now + 3 * H, lanes), next, lanes);
    else if (t)
      chains_from_zero(h, lanes, transposed(w.weight_hh, h, rows, now, lanes), next);
    float *swap = carry;
    carry = next;
    next = swap;
  }
  if (index > plan->lowest) {
    Sweep steps = {1, length, 0, step, 0, (int64_t)n * lanes};
    sweep_from_zero(steps, n, lanes, transposed(w.weight_ih, n, rows, gates, lanes), plan->below);
  }
  float *gradient = plan->gradient + layer->offset, *sums = plan->partial;
  Side delta = rows_in_time(gates, step, lanes), input = rows_in_time(values, (int64_t)n * lanes, lanes);
  Side state = rows_in_time(hidden, H, lanes), new_state = rows_in_time(gates + 3 * H, step, lanes);
  int shared = layer->kind == GRU ? 2 * h : rows; /* gate rows whose derivative is the same for inputs and state */
  outer_over_time(gradient, sums, lanes, delta, rows, input, n, length);
  outer_over_time(gradient + w.offset_hh, sums, lanes, delta, shared, state, h, length);
  if (layer->kind == GRU)
    outer_over_time(gradient + w.offset_hh + 2 * h * h, sums, lanes, new_state, h, state, h, length);
  over_positions(gradient + w.offset_bias_ih, sums, lanes, gates, lanes, step, rows, length);
  EACH_ITEM(j, shared) gradient[w.offset_bias_hh + j] = gradient[w.offset_bias_ih + j]; /* the same sums */
  if (layer->kind == GRU)
    over_positions(gradient + w.offset_bias_hh + 2 * h, sums, lanes, gates + 3 * H, lanes, step, h, length);
}
