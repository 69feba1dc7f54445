/* A network as a program: an array of layers over flat parameters, and where a group's values lie while it runs.

   A batch is cut into groups of `lanes` samples. A group goes through the whole program, forwards and backwards, before
   the next one starts. Rows are [time][feature][lanes]; an image's features are channel, row, column. */
#pragma once
#include "functions.h"

enum Kind { GRU = 1, LINEAR, RELU, LSTM, RNN, LAST, CONV, MAXPOOL, AVGPOOL, LEAKY, TANH, SIGMOID, DROPOUT, NORM };
enum { LAYERS_MAX = 32 };

typedef struct {
  int32_t kind, inputs, outputs, offset; /* features of a time step in and out; the first parameter */
  int32_t length, length_out;
  int32_t channels, height, width, out_channels, out_height, out_width, kernel_height, kernel_width, stride, padding;
  int32_t groups, spatial; /* norm: groups of features, and features that share a weight */
  float number;            /* leaky: slope; norm: epsilon; dropout: scale */
  uint32_t threshold;      /* dropout: 24-bit draws below it are dropped */
} Layer;

typedef struct {
  int32_t layers, parameters, lanes, resists;
  int32_t input_kind, target_kind, loss;
  int32_t target_length, target_width;
  float scale;
  const Layer *layer;
} Program;

typedef struct {
  float *activation[LAYERS_MAX + 1]; /* of layer i's input */
  float *saved[LAYERS_MAX];          /* what the backward pass of layer i needs beside: gates, masks, places */
  int32_t *at[LAYERS_MAX];           /* conv: where each tap lies */
  float *delta, *below;              /* derivative by the current layer's output, and by its input */
  float *carry, *carry_next, *cell;  /* recurrent: derivatives by the state, between time steps */
  float *partial;                    /* per-lane sums of a few rows of a weight gradient; transposed inputs */
  float *padded;                     /* conv: derivative by the padded image */
  float *bias;                       /* recurrent: both biases added */
  float *gradient;                   /* one a parameter, and room for SQUARES behind the last */
  float *moved, *here;               /* resistant training: moved parameters, with the same room; the gradient before */
  float *target;                     /* [time][width][lanes], or class numbers as int32 [time][lanes] */
  int lanes, valid;                  /* of this group: rows of lanes, and those that hold a sample */
  int first;                         /* the group's first sample of the batch */
  const uint32_t *keys;              /* dropout: two words a layer; null while measuring */
  uint32_t step;
  int lowest; /* the lowest layer with parameters: nothing below it needs a derivative */
} Plan;

static int64_t larger_of(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t taps(const Layer *l) { return (int64_t)l->channels * l->kernel_height * l->kernel_width; }

static int64_t padded_size(const Layer *l) {
  return (int64_t)l->channels * (l->height + 2 * l->padding) * (l->width + 2 * l->padding);
}

/* Floats a lane that a layer keeps for its backward pass. */
static int64_t saved_rows(const Layer *l) {
  int64_t values = (int64_t)l->length * l->outputs;
  switch (l->kind) {
    case GRU: return 4 * values;
    case LSTM: return 6 * values + l->outputs;
    case DROPOUT: return values;
    case MAXPOOL: return values;
    case NORM: return values + (int64_t)l->length * l->groups;
    case CONV: return l->padding ? padded_size(l) : 0;
  }
  return 0;
}

static int recurrent(const Layer *l) { return l->kind == GRU || l->kind == LSTM || l->kind == RNN; }
static int gates_of(const Layer *l) { return l->kind == GRU ? 3 : l->kind == LSTM ? 4 : 1; }
static int has_parameters(const Layer *l) {
  return recurrent(l) || l->kind == LINEAR || l->kind == CONV || l->kind == NORM;
}

enum { TREE_INPUTS = 64 }; /* of a weight, whose gradient over time is a tree over lanes; of more inputs it is one chain */

/* gradient[j][i] += over blocks, delta_j * value_i over time rising and the lanes of a block */
static void outer_over_time(float *gradient, float *space, int lanes, Side delta, int outputs, Side value, int inputs,
                            int length) {
  if (inputs > TREE_INPUTS)
    outer_over_steps(gradient, space, lanes, delta, outputs, value, inputs, length);
  else
    outer_in_time(gradient, space, lanes, delta, outputs, value, inputs, length);
}

static float *take(float **free_space, int64_t floats) {
  float *start = *free_space;
  *free_space += (floats + 15) / 16 * 16;
  return start;
}

static int elementwise(const Layer *l) {
  return l->kind == RELU || l->kind == LEAKY || l->kind == TANH || l->kind == SIGMOID;
}

/* Whether a layer may write over its inputs: the layer before does without its own outputs. */
static int in_place(const Layer *l) {
  int before = (l - 1)->kind;
  return (l->kind == RELU || l->kind == LEAKY) &&
         (before == LINEAR || before == CONV || before == MAXPOOL || before == AVGPOOL || before == NORM);
}

/* Lay out the scratch space; with scratch == NULL, only count it. Returns floats. */
static int64_t make_plan(const Program *program, Plan *plan, float *scratch) {
  int64_t lanes = program->lanes, widest = 0, most = 0, padded = 0, sums = 0;
  float *space = (float *)(((uintptr_t)scratch + 63) / 64 * 64), *start = space;
  plan->lowest = program->layers;
  for (int i = 0; i < program->layers; i++) {
    const Layer *l = &program->layer[i];
    int before = i > 0 && recurrent(l - 1); /* a recurrent layer's state before the first step: zero */
    if (i > 1 && in_place(l - 1))
      plan->activation[i] = plan->activation[i - 1];
    else
      plan->activation[i] = take(&space, (l->length + before) * (int64_t)l->inputs * lanes) + before * l->inputs * lanes;
    plan->saved[i] = take(&space, saved_rows(l) * lanes);
    plan->at[i] = (int32_t *)take(&space, l->kind == CONV ? taps(l) : 0);
    widest = larger_of(widest, larger_of(l->inputs, recurrent(l) ? 4 * l->outputs : l->outputs));
    most = larger_of(most, larger_of((int64_t)l->length * l->inputs, (int64_t)l->length_out * l->outputs));
    int64_t rows = l->kind == CONV ? larger_of(taps(l), l->out_channels) : larger_of(l->inputs, l->outputs);
    sums = larger_of(sums, (TILE_ROWS + ROWS) * (rows + VW) * LANES);
    int64_t window = l->kind == LINEAR && l->length == 1 ? l->inputs : l->kind == CONV ? taps(l) : 0;
    if (window) sums = larger_of(sums, 2 * (window + VW) * lanes + ROWS * VW);
    if (recurrent(l) || l->kind == LINEAR) {
      int64_t values = larger_of(l->inputs, recurrent(l) ? l->outputs : 0);
      sums = larger_of(sums, packed_floats((int)values, l->length));
      if (values > TREE_INPUTS) sums = larger_of(sums, steps_floats(gates_of(l) * l->outputs, (int)values, l->length));
    }
    if (l->kind == CONV) sums = larger_of(sums, image_floats(padded_size(l), (int)taps(l), l->out_height * l->out_width));
    if (l->kind == CONV && l->padding) padded = larger_of(padded, padded_size(l));
    if (has_parameters(l) && plan->lowest == program->layers) plan->lowest = i;
  }
  const Layer *end = &program->layer[program->layers - 1];
  int before = recurrent(end);
  plan->activation[program->layers] =
      take(&space, (end->length_out + before) * (int64_t)end->outputs * lanes) + before * end->outputs * lanes;
  plan->delta = take(&space, most * lanes);
  plan->below = take(&space, most * lanes);
  plan->carry = take(&space, widest * lanes);
  plan->carry_next = take(&space, widest * lanes);
  plan->cell = take(&space, widest * lanes);
  plan->partial = take(&space, larger_of(sums, (TILE_ROWS + ROWS) * (widest + VW) * LANES));
  plan->padded = take(&space, padded * lanes);
  plan->bias = take(&space, widest);
  plan->gradient = take(&space, program->parameters + SQUARES);
  plan->moved = take(&space, program->resists ? program->parameters + SQUARES : 0);
  plan->here = take(&space, program->resists ? program->parameters : 0);
  plan->target = take(&space, (int64_t)program->target_length * program->target_width * lanes);
  return space - start + 16;
}
