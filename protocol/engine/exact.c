/* exact-1 in C: the same bits as reference.py, for one network at a time.

   A network is a program: an array of layers over flat parameters. A batch is cut into blocks of 16 lanes, one sample a
   lane; a block goes through the whole program, forwards and backwards, before the next one starts, so its activations
   stay in the second-level cache. docs/exact_arithmetic.md is the specification.

   Compile with -ffp-contract=off. Vectors are GNU C's, understood by gcc and clang on any processor. */
#include <fenv.h>

#include "lanes.h"

enum { GRU = 1, LINEAR = 2, RELU = 3 };
enum { LAYERS_MAX = 32 };

typedef struct {
  int32_t kind, inputs, outputs;
  int32_t offset; /* of its first parameter */
} Layer;

typedef struct {
  int32_t layers, length, parameters;
  const Layer *layer;
} Program;

/* Where a block's values lie: activations are [time][width][16 lanes]. */
typedef struct {
  float *activation[LAYERS_MAX + 1]; /* of layer i's input; row -1 in time is zero, a gru's state before the first step */
  float *gates[LAYERS_MAX];          /* gru: r, z, n, g, and after the backward pass their deltas */
  float *delta, *below;              /* derivative by the current layer's output, and by its input */
  float *carry, *carry_next;         /* gru: derivative by the hidden state, between time steps */
  float *partial;                    /* per-lane sums of a few rows of a weight gradient */
  float *bias;                       /* gru: both biases of r and z added */
  float *gradient;                   /* one a parameter, and room for a vector behind the last */
  uint32_t *bits;                    /* the block's commands and pins, [time][16 lanes] */
} Plan;

static float *take(float **free_space, int64_t floats) {
  float *start = *free_space;
  *free_space += (floats + 15) / 16 * 16;
  return start;
}

/* Lay out the scratch space; with scratch == NULL, only count it. Returns floats. */
static int64_t make_plan(const Program *program, Plan *plan, float *scratch) {
  int64_t length = program->length, widest = program->layer[0].inputs;
  float *space = (float *)(((uintptr_t)scratch + 63) / 64 * 64);
  float *start = space;
  for (int i = 0; i <= program->layers; i++) {
    int64_t width = i ? program->layer[i - 1].outputs : program->layer[0].inputs;
    if (width > widest) widest = width;
    plan->activation[i] = take(&space, (length + 1) * width * LANES) + width * LANES;
    if (i < program->layers && program->layer[i].kind == GRU)
      plan->gates[i] = take(&space, length * 4 * program->layer[i].outputs * LANES);
  }
  plan->delta = take(&space, length * widest * LANES);
  plan->below = take(&space, length * widest * LANES);
  plan->carry = take(&space, widest * LANES);
  plan->carry_next = take(&space, widest * LANES);
  plan->partial = take(&space, (int64_t)(TILE_ROWS + ROWS) * (widest + VW) * LANES);
  plan->bias = take(&space, 3 * widest);
  plan->gradient = take(&space, program->parameters + LANES);
  plan->bits = (uint32_t *)take(&space, length * LANES);
  return space - start + 16;
}

/* ---- layers ---- */

typedef struct {
  const float *weight_ih, *weight_hh, *bias_ih, *bias_hh;
  int64_t offset_hh, offset_bias_ih, offset_bias_hh; /* from the layer's first parameter */
} GruParameters;

static GruParameters gru_parameters(const Layer *layer, const float *first) {
  int64_t n = layer->inputs, h = layer->outputs, hh = 3 * h * n, bi = hh + 3 * h * h, bh = bi + 3 * h;
  return (GruParameters){first, first + hh, first + bi, first + bh, hh, bi, bh};
}

static void gru_forward(const Layer *layer, const float *first, const Plan *plan, int index, int length) {
  int n = layer->inputs, h = layer->outputs;
  GruParameters w = gru_parameters(layer, first);
  float *hidden = plan->activation[index + 1] - h * LANES; /* row 0: before the first step */
  memset(hidden, 0, sizeof(float) * h * LANES);
  for (int j = 0; j < 2 * h; j++) plan->bias[j] = w.bias_ih[j] + w.bias_hh[j];
  for (int t = 0; t < length; t++) {
    const float *x = plan->activation[index] + (int64_t)t * n * LANES, *before = hidden + (int64_t)t * h * LANES;
    float *gates = plan->gates[index] + (int64_t)t * 4 * h * LANES, *after = hidden + (int64_t)(t + 1) * h * LANES;
    float *R = gates, *Z = R + h * LANES, *N = Z + h * LANES, *G = N + h * LANES;
    chains_from_bias(2 * h, plan->bias, weights(w.weight_ih, n, x), weights(w.weight_hh, h, before), R);
    chains_from_bias(h, w.bias_ih + 2 * h, weights(w.weight_ih + 2 * h * n, n, x), none, N);
    chains_from_bias(h, w.bias_hh + 2 * h, weights(w.weight_hh + 2 * h * h, h, before), none, G);
    for (int k = 0; k < 2 * h * LANES; k += VW) *(vec *)(R + k) = sigmoid_exact(*(vec *)(R + k));
    for (int k = 0; k < h * LANES; k += VW) {
      vec r = *(vec *)(R + k), z = *(vec *)(Z + k), n_ = tanh_exact(*(vec *)(N + k) + r * *(vec *)(G + k));
      *(vec *)(N + k) = n_;
      *(vec *)(after + k) = n_ + z * (*(const vec *)(before + k) - n_);
    }
  }
}

static void gru_backward(const Layer *layer, const float *first, const Plan *plan, int index, int length) {
  int n = layer->inputs, h = layer->outputs;
  int64_t step = 4 * (int64_t)h * LANES;
  GruParameters w = gru_parameters(layer, first);
  const float *hidden = plan->activation[index + 1] - h * LANES, *values = plan->activation[index];
  float *carry = plan->carry, *next = plan->carry_next;
  memset(carry, 0, sizeof(float) * h * LANES);
  for (int t = length - 1; t >= 0; t--) {
    const float *before = hidden + (int64_t)t * h * LANES, *delta = plan->delta + (int64_t)t * h * LANES;
    float *R = plan->gates[index] + t * step, *Z = R + h * LANES, *N = Z + h * LANES, *G = N + h * LANES;
    for (int k = 0; k < h * LANES; k += VW) {
      vec r = *(vec *)(R + k), z = *(vec *)(Z + k), n_ = *(vec *)(N + k), g = *(vec *)(G + k);
      vec d = *(vec *)(carry + k) + *(const vec *)(delta + k);
      vec dn = (d * (1.0f - z)) * (1.0f - n_ * n_);
      vec dz = (d * (*(const vec *)(before + k) - n_)) * (z * (1.0f - z));
      *(vec *)(R + k) = (dn * g) * (r * (1.0f - r));
      *(vec *)(Z + k) = dz;
      *(vec *)(N + k) = dn;
      *(vec *)(G + k) = dn * r;
      *(vec *)(next + k) = d * z;
    }
    if (t)
      chains_onto(h, transposed(w.weight_hh, h, 2 * h, R), transposed(w.weight_hh + 2 * h * h, h, h, G), next);
    float *swap = carry;
    carry = next;
    next = swap;
    if (index)
      chains_from_zero(n, transposed(w.weight_ih, n, 3 * h, R), plan->below + (int64_t)t * n * LANES);
  }
  const float *R = plan->gates[index], *G = R + 3 * h * LANES;
  float *gradient = plan->gradient + layer->offset, *sums = plan->partial;
  outer(gradient, sums, R, step, 3 * h, values, (int64_t)n * LANES, n, length);
  outer(gradient + w.offset_hh, sums, R, step, 2 * h, hidden, (int64_t)h * LANES, h, length);
  outer(gradient + w.offset_hh + 2 * h * h, sums, G, step, h, hidden, (int64_t)h * LANES, h, length);
  over_time(gradient + w.offset_bias_ih, sums, R, step, 3 * h, length);
  over_time(gradient + w.offset_bias_hh, sums, R, step, 2 * h, length);
  over_time(gradient + w.offset_bias_hh + 2 * h, sums, G, step, h, length);
}

static void linear_forward(const Layer *layer, const float *first, const Plan *plan, int index, int length) {
  int n = layer->inputs, m = layer->outputs;
  for (int t = 0; t < length; t++)
    chains_from_bias(m, first + m * n, weights(first, n, plan->activation[index] + (int64_t)t * n * LANES), none,
                     plan->activation[index + 1] + (int64_t)t * m * LANES);
}

static void linear_backward(const Layer *layer, const float *first, const Plan *plan, int index, int length) {
  int n = layer->inputs, m = layer->outputs;
  float *gradient = plan->gradient + layer->offset;
  if (index)
    for (int t = 0; t < length; t++)
      chains_from_zero(n, transposed(first, n, m, plan->delta + (int64_t)t * m * LANES),
                       plan->below + (int64_t)t * n * LANES);
  outer(gradient, plan->partial, plan->delta, (int64_t)m * LANES, m, plan->activation[index], (int64_t)n * LANES, n,
        length);
  over_time(gradient + m * n, plan->partial, plan->delta, (int64_t)m * LANES, m, length);
}

static void relu_forward(const Layer *layer, const Plan *plan, int index, int length) {
  const float *in = plan->activation[index];
  float *out = plan->activation[index + 1];
  for (int64_t k = 0; k < (int64_t)length * layer->outputs * LANES; k += VW)
    *(vec *)(out + k) = where_positive(*(const vec *)(in + k), *(const vec *)(in + k));
}

static void relu_backward(const Layer *layer, const Plan *plan, int index, int length) {
  const float *out = plan->activation[index + 1];
  for (int64_t k = 0; k < (int64_t)length * layer->outputs * LANES; k += VW)
    *(vec *)(plan->below + k) = where_positive(*(const vec *)(out + k), *(const vec *)(plan->delta + k));
}

/* ---- a block, a batch, a run of steps ---- */

/* Sequences are one word a time step: input bits from bit 0, then target bits. Lanes past `valid` are zero. */
static void load(const Program *program, const Plan *plan, const uint32_t *words, const int32_t *rows, int valid) {
  int length = program->length, inputs = program->layer[0].inputs;
  memset(plan->bits, 0, sizeof(uint32_t) * length * LANES);
  for (int lane = 0; lane < valid; lane++)
    for (int t = 0; t < length; t++) plan->bits[t * LANES + lane] = words[(int64_t)rows[lane] * length + t];
  for (int t = 0; t < length; t++)
    for (int i = 0; i < inputs; i++) {
      float *x = plan->activation[0] + ((int64_t)t * inputs + i) * LANES;
      for (int l = 0; l < LANES; l++) x[l] = (float)(int32_t)(plan->bits[t * LANES + l] >> i & 1);
    }
}

static void forward(const Program *program, const float *params, const Plan *plan) {
  for (int i = 0; i < program->layers; i++) {
    const Layer *layer = &program->layer[i];
    const float *first = params + layer->offset;
    if (layer->kind == GRU) gru_forward(layer, first, plan, i, program->length);
    if (layer->kind == LINEAR) linear_forward(layer, first, plan, i, program->length);
    if (layer->kind == RELU) relu_forward(layer, plan, i, program->length);
  }
}

static void backward(const Program *program, const float *params, Plan *plan) {
  for (int i = program->layers - 1; i >= 0; i--) {
    const Layer *layer = &program->layer[i];
    const float *first = params + layer->offset;
    if (layer->kind == GRU) gru_backward(layer, first, plan, i, program->length);
    if (layer->kind == LINEAR) linear_backward(layer, first, plan, i, program->length);
    if (layer->kind == RELU) relu_backward(layer, plan, i, program->length);
    float *swap = plan->delta;
    plan->delta = plan->below;
    plan->below = swap;
  }
}

/* The block's sum of squared errors; with `scale`, also the derivative of the loss by the outputs. */
static float squared_error(const Program *program, const Plan *plan, int valid, float scale) {
  int inputs = program->layer[0].inputs, pins = program->layer[program->layers - 1].outputs;
  float lane_sum[LANES] = {0};
  for (int t = 0; t < program->length; t++)
    for (int j = 0; j < pins; j++) {
      int64_t at = ((int64_t)t * pins + j) * LANES;
      const float *out = plan->activation[program->layers] + at;
      for (int l = 0; l < LANES; l++) {
        float error = out[l] - (float)(int32_t)(plan->bits[t * LANES + l] >> (inputs + j) & 1);
        error = l < valid ? error : 0.0f;
        lane_sum[l] = lane_sum[l] + error * error;
        plan->delta[at + l] = error * scale;
      }
    }
  for (int half = LANES / 2; half; half /= 2)
    for (int l = 0; l < half; l++) lane_sum[l] = lane_sum[l] + lane_sum[l + half];
  return lane_sum[0];
}

static float values_compared(const Program *program, int samples) {
  return (float)((int64_t)samples * program->length * program->layer[program->layers - 1].outputs);
}

static float loss_and_gradient(const Program *program, Plan *plan, const float *params, const uint32_t *words,
                               const int32_t *rows, int batch) {
  float total = 0.0f, count = values_compared(program, batch);
  memset(plan->gradient, 0, sizeof(float) * program->parameters);
  for (int first = 0; first < batch; first += LANES) {
    int valid = batch - first < LANES ? batch - first : LANES;
    load(program, plan, words, rows + first, valid);
    forward(program, params, plan);
    total = total + squared_error(program, plan, valid, 2.0f / count);
    backward(program, params, plan);
  }
  return total / count;
}

typedef struct {
  float beta1, rest1, beta2, rest2, epsilon;
} Adam;

static void adam(const Adam *a, float rate, float correction, int n, const float *restrict gradient,
                 float *restrict params, float *restrict first, float *restrict second) {
  for (int p = 0; p < n; p++) {
    float g = gradient[p];
    first[p] = first[p] * a->beta1 + g * a->rest1;
    second[p] = second[p] * a->beta2 + (g * g) * a->rest2;
    params[p] = params[p] - (first[p] * rate) / (sqrtf(second[p]) * correction + a->epsilon);
  }
}

/* ---- what Python calls, between exact_enter and exact_leave ----

   The host program may have left another rounding mode or flush-to-zero behind; both belong to the thread. */

int32_t exact_environment_bytes(void) { return (int32_t)sizeof(fenv_t); }

void exact_enter(fenv_t *host) {
  fegetenv(host);
  fesetenv(FE_DFL_ENV);
}

void exact_leave(const fenv_t *host) { fesetenv(host); }

int64_t exact_scratch_floats(const Program *program) {
  Plan plan;
  return make_plan(program, &plan, 0);
}

/* Train one network in place. order: steps x batch rows of words; sizes: steps x 2; moments: first, then second. */
void exact_train(const Program *program, const uint32_t *words, const int32_t *order, int32_t batch, int32_t steps,
                 const float *sizes, const Adam *a, float *params, float *moments, float *losses, float *scratch) {
  Plan plan;
  make_plan(program, &plan, scratch);
  for (int s = 0; s < steps; s++) {
    losses[s] = loss_and_gradient(program, &plan, params, words, order + (int64_t)s * batch, batch);
    adam(a, sizes[2 * s], sizes[2 * s + 1], program->parameters, plan.gradient, params, moments,
         moments + program->parameters);
  }
}

void exact_held_out(const Program *program, const uint32_t *words, int32_t samples, const float *params, float *loss,
                    float *scratch) {
  Plan plan;
  int32_t rows[LANES];
  float total = 0.0f;
  make_plan(program, &plan, scratch);
  for (int first = 0; first < samples; first += LANES) {
    int valid = samples - first < LANES ? samples - first : LANES;
    for (int l = 0; l < valid; l++) rows[l] = first + l;
    load(program, &plan, words, rows, valid);
    forward(program, params, &plan);
    total = total + squared_error(program, &plan, valid, 0.0f);
  }
  *loss = total / values_compared(program, samples);
}
