/* exact-1 in C: the same bits as reference.py, for one network at a time.

   Reading order: lanes.h (vectors and sums), functions.h (exp, tanh, ...), program.h (layers, and where values lie),
   layers_*.h, losses.h, optimizers.h, then this file: a group of samples, a batch, a run of steps.
   docs/exact_arithmetic.md is the specification.

   Compile with -ffp-contract=off. Vectors are GNU C's, understood by gcc and clang on any processor. */
#include <fenv.h>

#include "layers_dense.h"
#include "layers_image.h"
#include "layers_recurrent.h"
#include "losses.h"
#include "optimizers.h"

typedef struct {
  const void *inputs, *targets; /* rows of samples: bytes or floats; classes are int32 */
} Samples;

/* Rows of samples -> rows of lanes; lanes past the last sample are zero. */
static void load_rows(const void *data, int as_bytes, float scale, int64_t width, const int32_t *rows, int valid,
                      int lanes, float *out) {
  for (int lane = 0; lane < lanes; lane += VW)
    for (int64_t f = 0; f < width; f += VW) {
      float square[VW][VW] __attribute__((aligned(64))) = {{0}}, turned[VW][VW] __attribute__((aligned(64)));
      int64_t some = width - f < VW ? width - f : VW;
      for (int l = 0; l < VW && lane + l < valid; l++) {
        int64_t at = rows[lane + l] * width + f;
        if (!as_bytes)
          memcpy(square[l], (const float *)data + at, sizeof(float) * some);
        else {
          uint8_t byte[VW] = {0};
          memcpy(byte, (const uint8_t *)data + at, some);
          for (int k = 0; k < VW; k++) square[l][k] = (float)byte[k] * scale;
        }
      }
      transpose_square(square[0], VW, turned[0], VW);
      for (int k = 0; k < some; k++) memcpy(out + (f + k) * lanes + lane, turned[k], sizeof turned[k]);
    }
}

static void load(const Program *program, const Plan *plan, const Samples *samples, const int32_t *rows) {
  const Layer *first = &program->layer[0];
  load_rows(samples->inputs, program->input_kind == BYTES, program->scale, (int64_t)first->length * first->inputs, rows,
            plan->valid, plan->lanes, plan->activation[0]);
  int64_t width = (int64_t)program->target_length * program->target_width;
  if (program->target_kind != CLASSES) {
    load_rows(samples->targets, program->target_kind == PINS, 1.0f, width, rows, plan->valid, plan->lanes, plan->target);
    return;
  }
  int32_t *class = (int32_t *)plan->target;
  for (int t = 0; t < program->target_length; t++)
    for (int l = 0; l < plan->lanes; l++)
      class[t * plan->lanes + l] =
          l < plan->valid ? ((const int32_t *)samples->targets)[(int64_t)rows[l] * program->target_length + t] : 0;
}

static void forward(const Program *program, const float *params, const Plan *plan) {
  for (int i = 0; i < program->layers; i++) {
    const Layer *layer = &program->layer[i];
    const float *first = params + layer->offset;
    switch (layer->kind) {
      case GRU: gru_forward(layer, first, plan, i); break;
      case LSTM: lstm_forward(layer, first, plan, i); break;
      case RNN: rnn_forward(layer, first, plan, i); break;
      case LINEAR: linear_forward(layer, first, plan, i); break;
      case LAST: last_forward(layer, plan, i); break;
      case CONV: conv_forward(layer, first, plan, i); break;
      case MAXPOOL: maxpool_forward(layer, plan, i); break;
      case AVGPOOL: avgpool_forward(layer, plan, i); break;
      case DROPOUT: dropout_forward(layer, plan, i); break;
      case NORM: norm_forward(layer, first, plan, i); break;
      default: elementwise_forward(layer, plan, i);
    }
  }
}

static void backward(const Program *program, const float *params, Plan *plan) {
  for (int i = program->layers - 1; i >= plan->lowest; i--) {
    const Layer *layer = &program->layer[i];
    const float *first = params + layer->offset;
    switch (layer->kind) {
      case GRU:
      case LSTM:
      case RNN: recurrent_backward(layer, first, plan, i); break;
      case LINEAR: linear_backward(layer, first, plan, i); break;
      case LAST: last_backward(layer, plan); break;
      case CONV: conv_backward(layer, first, plan, i); break;
      case MAXPOOL:
      case AVGPOOL: pool_backward(layer, plan, i); break;
      case DROPOUT: dropout_backward(layer, plan, i); break;
      case NORM: norm_backward(layer, first, plan, i); break;
      default: elementwise_backward(layer, plan, i);
    }
    float *swap = plan->delta;
    plan->delta = plan->below;
    plan->below = swap;
  }
}

/* The samples from `first` on that go together; the last group of a batch has fewer lanes. */
static void set_group(const Program *program, Plan *plan, int first, int samples) {
  int left = samples - first;
  plan->first = first;
  plan->valid = left < program->lanes ? left : program->lanes;
  plan->lanes = (plan->valid + LANES - 1) / LANES * LANES;
}

static float loss_and_gradient(const Program *program, Plan *plan, const float *params, const Samples *samples,
                               const int32_t *rows, int batch) {
  float total = 0.0f, count = values_compared(program, batch);
  memset(plan->gradient, 0, sizeof(float) * program->parameters);
  for (int first = 0; first < batch; first += program->lanes) {
    set_group(program, plan, first, batch);
    load(program, plan, samples, rows + first);
    forward(program, params, plan);
    total = add_loss(program, plan, total, count);
    backward(program, params, plan);
  }
  return total / count;
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

/* Train one network in place from `step` on. order: steps x batch rows; sizes: steps x 3; moments: first, then second;
   keys: layers x 2. */
void exact_train(const Program *program, const Samples *samples, const int32_t *order, int32_t batch, int32_t step,
                 int32_t steps, const float *sizes, const uint32_t *keys, const Optimizer *optimizer, float *params,
                 float *moments, float *losses, float *scratch) {
  Plan plan;
  make_plan(program, &plan, scratch);
  plan.keys = keys;
  for (int s = 0; s < steps; s++) {
    plan.step = (uint32_t)(step + s);
    losses[s] = loss_and_gradient(program, &plan, params, samples, order + (int64_t)s * batch, batch);
    optimize(optimizer, sizes + 3 * s, program->parameters, plan.gradient, params, moments);
  }
}

/* The loss and gradient of one batch, for comparison with other implementations. */
void exact_gradient(const Program *program, const Samples *samples, const int32_t *order, int32_t batch, int32_t step,
                    const uint32_t *keys, const float *params, float *loss, float *gradient, float *scratch) {
  Plan plan;
  make_plan(program, &plan, scratch);
  plan.keys = keys;
  plan.step = (uint32_t)step;
  *loss = loss_and_gradient(program, &plan, params, samples, order, batch);
  memcpy(gradient, plan.gradient, sizeof(float) * program->parameters);
}

void exact_evaluate(const Program *program, const Samples *samples, int32_t count, const float *params, float *loss,
                    int64_t *correct, float *scratch) {
  Plan plan;
  int32_t rows[LANES_MAX];
  float total = 0.0f, compared = values_compared(program, count);
  make_plan(program, &plan, scratch);
  plan.keys = 0;
  *correct = 0;
  for (int first = 0; first < count; first += program->lanes) {
    set_group(program, &plan, first, count);
    for (int l = 0; l < plan.valid; l++) rows[l] = first + l;
    load(program, &plan, samples, rows);
    forward(program, params, &plan);
    total = add_loss(program, &plan, total, compared);
    *correct += count_correct(program, &plan);
  }
  *loss = total / compared;
}
