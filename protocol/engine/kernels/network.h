/* A network on a group of samples, a batch, a run of steps: shared by exact.c and exact.cu. */
#pragma once
#include "layers_dense.h"
#include "layers_image.h"
#include "layers_recurrent.h"
#include "losses.h"

/* One step of an optimizer over flat parameters. docs/exact_arithmetic.md, section 10. */
enum Rule { ADAM = 1, ADAMW, SGD, RMSPROP };

typedef struct {
  int32_t rule, nesterov;
  float beta1, rest1, beta2, rest2, epsilon, momentum, decay, clip;
  float share, rest_share, radius; /* resistant training, from step `begin` on; share 0: none */
  int32_t begin;
} Optimizer;

/* Of a vector with room for SQUARES behind its last value. */
static float norm(float *values, int64_t n) { return sqrtf(sum_of_squares(values, n)); }

/* Scale the gradient so that its norm is at most `clip`. */
static void clip_norm(float clip, int64_t n, float *gradient) {
  float scale = clip / (norm(gradient, n) + 1e-6f);
  if (scale < 1.0f)
    EACH_ITEM(p, n) gradient[p] = gradient[p] * scale;
}

static void adam(const Optimizer *o, const float *size, int64_t n, const float *restrict gradient,
                 float *restrict params, float *restrict first, float *restrict second) {
  float rate = size[0], correction = size[1];
  EACH_ITEM(p, n) {
    float g = gradient[p];
    first[p] = fused_one(first[p], o->beta1, g * o->rest1);
    second[p] = fused_one(second[p], o->beta2, (g * g) * o->rest2);
    params[p] = params[p] - (first[p] * rate) / fused_one(sqrtf(second[p]), correction, o->epsilon);
  }
}

static void sgd(const Optimizer *o, float rate, int64_t n, const float *restrict gradient, float *restrict params,
                float *restrict first) {
  if (o->momentum == 0.0f) {
    EACH_ITEM(p, n) params[p] = fused_one(-gradient[p], rate, params[p]);
    return;
  }
  EACH_ITEM(p, n) {
    float g = gradient[p];
    first[p] = fused_one(first[p], o->momentum, g);
    params[p] = fused_one(-(o->nesterov ? fused_one(first[p], o->momentum, g) : first[p]), rate, params[p]);
  }
}

static void rmsprop(const Optimizer *o, float rate, int64_t n, const float *restrict gradient, float *restrict params,
                    float *restrict first, float *restrict second) {
  EACH_ITEM(p, n) {
    float g = gradient[p];
    second[p] = fused_one(second[p], o->beta2, (g * g) * o->rest2);
    float move = g / (sqrtf(second[p]) + o->epsilon);
    if (o->momentum != 0.0f) move = first[p] = fused_one(first[p], o->momentum, move);
    params[p] = fused_one(-move, rate, params[p]);
  }
}

/* size: the step's rate, adam's correction, adamw's shrinking. The gradient has room for SQUARES behind the last. */
static void optimize(const Optimizer *o, const float *size, int64_t n, float *gradient, float *params, float *moments) {
  float *first = moments, *second = moments + n;
  if (o->clip > 0.0f) clip_norm(o->clip, n, gradient);
  if (o->decay > 0.0f && o->rule != ADAMW)
    EACH_ITEM(p, n) gradient[p] = fused_one(params[p], o->decay, gradient[p]);
  if (o->decay > 0.0f && o->rule == ADAMW)
    EACH_ITEM(p, n) params[p] = fused_one(-params[p], size[2], params[p]);
  if (o->rule == ADAM || o->rule == ADAMW) adam(o, size, n, gradient, params, first, second);
  if (o->rule == SGD) sgd(o, size[0], n, gradient, params, first);
  if (o->rule == RMSPROP) rmsprop(o, size[0], n, gradient, params, first, second);
}

typedef struct {
  const void *inputs, *targets; /* rows of samples: bytes or floats; classes are int32 */
} Samples;

/* rows: the group's samples; NULL for those from `plan->first` on. */
APART static void load(const Program *program, const Plan *plan, const Samples *samples, const int32_t *rows) {
  const Layer *first = &program->layer[0];
  load_rows(samples->inputs, program->input_kind == BYTES, program->scale, (int64_t)first->length * first->inputs, rows,
            plan->first, plan->valid, plan->lanes, plan->activation[0]);
  int64_t width = (int64_t)program->target_length * program->target_width;
  if (program->target_kind != CLASSES) {
    load_rows(samples->targets, program->target_kind == PINS, 1.0f, width, rows, plan->first, plan->valid, plan->lanes,
              plan->target);
    return;
  }
  const int32_t *from = (const int32_t *)samples->targets;
  int32_t *classes = (int32_t *)plan->target;
  EACH_ITEM(k, (int64_t)program->target_length * plan->lanes) {
    int t = (int)k / plan->lanes, l = (int)k % plan->lanes, row = rows && l < plan->valid ? rows[l] : plan->first + l;
    classes[k] = l < plan->valid ? from[(int64_t)row * program->target_length + t] : 0;
  }
}

APART static void forward(const Program *program, const float *params, const Plan *plan) {
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
    if (!elementwise(layer)) ALONE(float *swap = plan->delta; plan->delta = plan->below; plan->below = swap;)
  }
}

/* The samples from `first` on that go together; the last group of a batch has fewer lanes. */
static void set_group(const Program *program, Plan *plan, int first, int samples) {
  int left = samples - first;
  ALONE(plan->first = first; plan->valid = left < program->lanes ? left : program->lanes;
        plan->lanes = (plan->valid + LANES - 1) / LANES * LANES;)
}

static float loss_and_gradient(const Program *program, Plan *plan, const float *params, const Samples *samples,
                               const int32_t *rows, int batch) {
  float total = 0.0f, count = values_compared(program, batch);
  fill_zero(plan->gradient, program->parameters);
  for (int first = 0; first < batch; first += program->lanes) {
    set_group(program, plan, first, batch);
    load(program, plan, samples, rows + first);
    forward(program, params, plan);
    total = add_loss(program, plan, total, count);
    backward(program, params, plan);
  }
  return total / count;
}

/* A batch's gradient is in the plan: mix it with that of parameters moved along it by `radius` of their norm. */
static void resist(const Program *program, Plan *plan, const float *params, const Samples *samples,
                   const int32_t *rows, int batch, const Optimizer *o) {
  int64_t n = program->parameters;
  float *moved = plan->moved, *there = plan->gradient, *here = plan->here;
  copy_floats(moved, params, n);
  copy_floats(here, there, n);
  float scale = (o->radius * norm(moved, n)) / (norm(there, n) + 1e-12f);
  EACH_ITEM(p, n) moved[p] = fused_one(here[p], scale, params[p]);
  loss_and_gradient(program, plan, moved, samples, rows, batch);
  EACH_ITEM(p, n) there[p] = fused_one(there[p], o->share, here[p] * o->rest_share);
}

/* Train one network in place by `steps` steps, the first of which is `step`. order: steps x batch rows; sizes: steps x 3;
   moments: first, then second; keys: layers x 2. */
static void train_network(const Program *program, Plan *plan, const Samples *samples, const int32_t *order, int batch,
                          int step, int steps, const float *sizes, const uint32_t *keys, const Optimizer *optimizer,
                          float *params, float *moments, float *losses) {
  for (int s = 0; s < steps; s++) {
    ALONE(plan->keys = keys; plan->step = (uint32_t)(step + s);)
    const int32_t *rows = order + (int64_t)s * batch;
    float loss = loss_and_gradient(program, plan, params, samples, rows, batch);
    ALONE(losses[s] = loss;)
    if (optimizer->share > 0.0f && step + s >= optimizer->begin)
      resist(program, plan, params, samples, rows, batch, optimizer);
    optimize(optimizer, sizes + 3 * s, program->parameters, plan->gradient, params, moments);
  }
}

/* The losses of some networks over all samples, in order and as one batch, and how many targets are met; NULL: not
   counted. A group of samples is loaded once for all of them. */
static void measure_networks(const Program *program, Plan *plan, const Samples *samples, int count,
                             const float *const *params, int networks, float *losses, int64_t *correct) {
  float compared = values_compared(program, count);
  ALONE(plan->keys = 0; for (int k = 0; k < networks; k++) {
    losses[k] = 0.0f;
    if (correct) correct[k] = 0;
  })
  for (int first = 0; first < count; first += program->lanes) {
    set_group(program, plan, first, count);
    load(program, plan, samples, 0);
    for (int k = 0; k < networks; k++) {
      forward(program, params[k], plan);
      float total = add_loss(program, plan, losses[k], compared);
      int64_t met = correct ? count_correct(program, plan) : 0;
      ALONE(losses[k] = total; if (correct) correct[k] += met;)
    }
  }
  ALONE(for (int k = 0; k < networks; k++) losses[k] = losses[k] / compared;)
}
