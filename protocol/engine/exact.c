/* exact-1 in C: the same bits as reference.py, for one network at a time.

   A network is a program: an array of layers over flat parameters. A batch is cut into blocks of 16 lanes, one sample a
   lane; a block goes through the whole program, forwards and backwards, before the next one starts, so its activations
   stay in the second-level cache. How many lanes a vector holds (VW) and how many outputs are computed together
   changes the speed and never an operation or its order; docs/exact_arithmetic.md is the specification.

   Compile with -ffp-contract=off. Vectors are GNU C's, understood by gcc and clang on any processor. */
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#if defined(__AVX512F__)
#define VW 16
#define TILE_ROWS 4
#define TILE_COLUMNS 4
#elif defined(__AVX__)
#define VW 8
#define TILE_ROWS 4
#define TILE_COLUMNS 2
#else
#define VW 4
#define TILE_ROWS 4
#define TILE_COLUMNS 2
#endif
#define ROWS 12 /* outputs computed together: accumulators held in registers */

typedef float vec __attribute__((vector_size(4 * VW), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * VW), may_alias));

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

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

/* ---- sums over inputs: each output is one chain, inputs rising ---- */

typedef struct { /* output j adds weight[j * row + i * column] * value[i] */
  const float *weight, *value;
  int64_t row, column;
  int n;
} Terms;

enum Start { ZERO, BIAS, MEMORY }; /* what a chain starts from: 0, bias[j], or what `out` holds */

INLINE void chain_rows(int rows, enum Start start, const float *bias, Terms a, Terms b, float *out) {
  vec sum[ROWS];
  UNROLL for (int j = 0; j < rows; j++) {
    if (start == ZERO) sum[j] = (vec){0};
    if (start == BIAS) sum[j] = bias[j] - (vec){0}; /* x - 0 is x, also for x = -0 */
    if (start == MEMORY) sum[j] = *(const vec *)(out + j * LANES);
  }
  for (int i = 0; i < a.n; i++) {
    vec value = *(const vec *)(a.value + i * LANES);
    UNROLL for (int j = 0; j < rows; j++) sum[j] = sum[j] + value * a.weight[j * a.row + i * a.column];
  }
  for (int i = 0; i < b.n; i++) {
    vec value = *(const vec *)(b.value + i * LANES);
    UNROLL for (int j = 0; j < rows; j++) sum[j] = sum[j] + value * b.weight[j * b.row + i * b.column];
  }
  UNROLL for (int j = 0; j < rows; j++) *(vec *)(out + j * LANES) = sum[j];
}

INLINE Terms shifted(Terms t, int64_t row, int lane) {
  t.weight += row * t.row;
  t.value += lane;
  return t;
}

/* out[j] = start + terms of a + terms of b, for all outputs and lanes */
INLINE void chains(int outputs, enum Start start, const float *bias, Terms a, Terms b, float *out) {
  for (int lane = 0; lane < LANES; lane += VW) {
    int j = 0;
    for (; j + ROWS <= outputs; j += ROWS)
      chain_rows(ROWS, start, bias + j, shifted(a, j, lane), shifted(b, j, lane), out + j * LANES + lane);
    for (; j + 4 <= outputs; j += 4)
      chain_rows(4, start, bias + j, shifted(a, j, lane), shifted(b, j, lane), out + j * LANES + lane);
    for (; j < outputs; j++)
      chain_rows(1, start, bias + j, shifted(a, j, lane), shifted(b, j, lane), out + j * LANES + lane);
  }
}

static const Terms none = {0};

static void chains_from_bias(int outputs, const float *bias, Terms a, Terms b, float *out) {
  chains(outputs, BIAS, bias, a, b, out);
}
static void chains_from_zero(int outputs, Terms a, float *out) { chains(outputs, ZERO, out, a, none, out); }
static void chains_onto(int outputs, Terms a, Terms b, float *out) { chains(outputs, MEMORY, out, a, b, out); }

static Terms weights(const float *weight, int inputs, const float *value) {
  return (Terms){weight, value, inputs, 1, inputs};
}
static Terms transposed(const float *weight, int inputs, int outputs, const float *delta) {
  return (Terms){weight, delta, 1, inputs, outputs};
}

/* ---- sums over lanes and time: weight gradients ---- */

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

INLINE void outer_tile(int rows, int columns, const float *delta, int64_t delta_step, const float *value,
                       int64_t value_step, int length, float *sums, int row_stride) {
  vec sum[TILE_ROWS][TILE_COLUMNS];
  UNROLL for (int j = 0; j < rows; j++) UNROLL for (int i = 0; i < columns; i++) sum[j][i] = (vec){0};
  for (int t = 0; t < length; t++) {
    vec v[TILE_COLUMNS];
    UNROLL for (int i = 0; i < columns; i++) v[i] = *(const vec *)(value + t * value_step + i * LANES);
    UNROLL for (int j = 0; j < rows; j++) {
      vec d = *(const vec *)(delta + t * delta_step + j * LANES);
      UNROLL for (int i = 0; i < columns; i++) sum[j][i] = sum[j][i] + d * v[i];
    }
  }
  UNROLL for (int j = 0; j < rows; j++) UNROLL for (int i = 0; i < columns; i++)
    *(vec *)(sums + (j * row_stride + i) * LANES) = sum[j][i];
}

INLINE void outer_rows(int rows, const float *delta, int64_t delta_step, const float *value, int64_t value_step,
                       int inputs, int length, float *sums) {
  for (int lane = 0; lane < LANES; lane += VW) {
    const float *d = delta + lane, *v = value + lane;
    float *s = sums + lane;
    int i = 0;
    for (; i + TILE_COLUMNS <= inputs; i += TILE_COLUMNS)
      outer_tile(rows, TILE_COLUMNS, d, delta_step, v + i * LANES, value_step, length, s + i * LANES, inputs);
    for (; i < inputs; i++) outer_tile(rows, 1, d, delta_step, v + i * LANES, value_step, length, s + i * LANES, inputs);
  }
}

/* gradient[j][i] += over lanes, over time rising, delta[t][j] * value[t][i] */
static void outer(float *gradient, float *sums, const float *delta, int64_t delta_step, int outputs, const float *value,
                  int64_t value_step, int inputs, int length) {
  int j = 0;
  for (; j + TILE_ROWS <= outputs; j += TILE_ROWS) {
    outer_rows(TILE_ROWS, delta + j * LANES, delta_step, value, value_step, inputs, length, sums);
    add_trees(gradient + (int64_t)j * inputs, sums, TILE_ROWS * inputs);
  }
  for (; j < outputs; j++) {
    outer_rows(1, delta + j * LANES, delta_step, value, value_step, inputs, length, sums);
    add_trees(gradient + (int64_t)j * inputs, sums, inputs);
  }
}

/* gradient[j] += over lanes, over time rising, delta[t][j] */
static void over_time(float *gradient, float *sums, const float *delta, int64_t delta_step, int outputs, int length) {
  for (int k = 0; k < outputs * LANES; k += VW) {
    vec sum = (vec){0};
    for (int t = 0; t < length; t++) sum = sum + *(const vec *)(delta + t * delta_step + k);
    *(vec *)(sums + k) = sum;
  }
  add_trees(gradient, sums, outputs);
}

/* ---- elementwise ---- */

INLINE vec smaller(vec a, float b) {
  vec r;
  UNROLL for (int l = 0; l < VW; l++) r[l] = a[l] < b ? a[l] : b;
  return r;
}
INLINE vec larger(vec a, float b) {
  vec r;
  UNROLL for (int l = 0; l < VW; l++) r[l] = a[l] > b ? a[l] : b;
  return r;
}
INLINE vec where_positive(vec condition, vec value) { return (vec)((condition > 0) & (ivec)value); }

INLINE vec tanh_exact(vec x) {
  const float clamp = 7.90531110763549805f;
  x = larger(smaller(x, clamp), -clamp);
  vec s = x * x;
  vec p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  vec q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return (p * x) / q;
}
INLINE vec sigmoid_exact(vec x) { return tanh_exact(x * 0.5f) * 0.5f + 0.5f; }

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
