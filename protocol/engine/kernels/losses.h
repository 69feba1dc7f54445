/* The losses: what a group adds, the derivative by its outputs, and how many of its targets are met. */
#pragma once
#include "program.h"

enum Loss { MSE = 1, BCE, CROSS_ENTROPY };
enum Inputs { BYTES = 1, FLOATS };
enum Targets { PINS = 1, VALUES, CLASSES };

static float values_compared(const Program *program, int samples) {
  int64_t width = program->loss == CROSS_ENTROPY ? 1 : program->target_width;
  return (float)((int64_t)samples * program->target_length * width);
}

INLINE void squared_error(vec y, vec target, int lane, int valid, float scale, vec *loss, vec *delta) {
  vec error = kept(y - target, lane, valid);
  *loss = fused(error, error, *loss);
  *delta = error * scale;
}

INLINE void binary_cross_entropy(vec y, vec target, int lane, int valid, float scale, vec *loss, vec *delta) {
  vec size = where(y > 0, y, ZEROS - y);
  vec term = fused(-y, target, where_positive(y, y)) + log_exact(exp_exact(ZEROS - size) + 1.0f);
  *loss = *loss + kept(term, lane, valid);
  *delta = kept(sigmoid_exact(y) - target, lane, valid) * scale;
}

INLINE void cross_entropy(const float *out, const int32_t *target, int classes, int lanes, int lane, int valid,
                          float scale, vec *loss, float *delta) {
  vec top = READ(out, lane), sum = ZEROS, chosen = ZEROS;
  ivec right = READ_INT(target, lane);
  for (int j = 1; j < classes; j++) top = where(READ(out, j * lanes + lane) > top, READ(out, j * lanes + lane), top);
  for (int j = 0; j < classes; j++) {
    vec y = READ(out, j * lanes + lane), e = exp_exact(y - top);
    AT(delta, j * lanes + lane) = e;
    sum = sum + e;
    chosen = where(right == j, y, chosen);
  }
  *loss = *loss + kept(log_exact(sum) + (top - chosen), lane, valid);
  for (int j = 0; j < classes; j++) {
    vec share = AT(delta, j * lanes + lane) / sum;
    share = where(right == j, share - 1.0f, share);
    AT(delta, j * lanes + lane) = kept(share, lane, valid) * scale;
  }
}

/* Adds the group's blocks to `total`, in order; writes plan->delta. */
APART static float add_loss(const Program *program, const Plan *plan, float total, float count) {
  int lanes = plan->lanes, width = program->target_width;
  float *lane_sum = plan->partial;
  float scale = (program->loss == MSE ? 2.0f : 1.0f) / count;
  const int32_t *classes = (const int32_t *)plan->target;
  EACH_VEC(k_lane, lanes) {
    int lane = (int)k_lane;
    vec sum = ZEROS;
    for (int t = 0; t < program->target_length; t++) {
      const float *out = plan->activation[program->layers] + (int64_t)t * width * lanes;
      float *delta = plan->delta + (int64_t)t * width * lanes;
      if (program->loss == CROSS_ENTROPY) {
        cross_entropy(out, classes + t * lanes, width, lanes, lane, plan->valid, scale, &sum, delta);
        continue;
      }
      const float *target = plan->target + (int64_t)t * width * lanes;
      for (int64_t k = lane; k < (int64_t)width * lanes; k += lanes)
        if (program->loss == MSE)
          squared_error(READ(out, k), READ(target, k), lane, plan->valid, scale, &sum, &AT(delta, k));
        else
          binary_cross_entropy(READ(out, k), READ(target, k), lane, plan->valid, scale, &sum, &AT(delta, k));
    }
    AT(lane_sum, lane) = sum;
  }
  for (int block = 0; block < lanes; block += LANES) total = total + block_sum(lane_sum + block);
  SYNC;
  return total;
}

/* Classes: the first largest output is the right one. Pins: the output is on the right side of the middle. */
static int64_t count_correct(const Program *program, const Plan *plan) {
  int lanes = plan->lanes, width = program->target_width, pins = program->target_kind == PINS;
  const int32_t *classes = (const int32_t *)plan->target;
  int32_t *met = (int32_t *)plan->partial; /* of each lane */
  EACH_ITEM(l, plan->valid) {
    int32_t correct = 0;
    for (int t = 0; t < program->target_length; t++) {
      const float *out = plan->activation[program->layers] + (int64_t)t * width * lanes + l;
      if (program->target_kind == CLASSES) {
        int best = 0;
        for (int j = 1; j < width; j++)
          if (out[j * lanes] > out[best * lanes]) best = j;
        correct += best == classes[t * lanes + l];
      }
      for (int j = 0; pins && j < width; j++) {
        int high = out[j * lanes] > (program->loss == BCE ? 0.0f : 0.5f);
        correct += high == (plan->target[((int64_t)t * width + j) * lanes + l] > 0.5f);
      }
    }
    met[l] = correct;
  }
  int64_t sum = 0;
  for (int l = 0; l < plan->valid; l++) sum += met[l];
  SYNC;
  return sum;
}
