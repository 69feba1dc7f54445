/* One step of an optimizer over flat parameters. docs/exact_arithmetic.md, section 10. */
#pragma once
#include "functions.h"

enum Rule { ADAM = 1, ADAMW, SGD, RMSPROP };

typedef struct {
  int32_t rule, nesterov;
  float beta1, rest1, beta2, rest2, epsilon, momentum, decay, clip;
} Optimizer;

/* Scale the gradient so that its norm is at most `clip`. */
static void clip_norm(float clip, int64_t n, float *gradient) {
  float scale = clip / (sqrtf(sum_of_squares(gradient, n)) + 1e-6f);
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
