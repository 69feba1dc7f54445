/* conv2d and the pools, over images of [channel][row][column] rows of lanes. */
#pragma once
#include "program.h"

typedef struct { /* an image as a convolution sees it: padded */
  int64_t height, width, line, step, plane; /* line, step: floats between places of the window, down and across */
} Frame;

static Frame frame_of(const Layer *l, int lanes) {
  int64_t height = l->height + 2 * l->padding, width = l->width + 2 * l->padding;
  return MAKE(Frame){height, width, l->stride * width * lanes, (int64_t)l->stride * lanes, height * width * lanes};
}

/* Copy between an image and the middle of its padded frame. */
static void copy_rows(const Layer *l, int lanes, float *padded, float *image, int out) {
  Frame f = frame_of(l, lanes);
  int64_t row = (int64_t)l->width * lanes;
  EACH_ROW(line, (int64_t)l->channels * l->height, row) {
    int64_t c = line / l->height, y = line % l->height;
    float *in_frame = padded + c * f.plane + ((y + l->padding) * f.width + l->padding) * lanes;
    float *in_image = image + line * row, *to = out ? in_image : in_frame;
    const float *from = out ? in_frame : in_image;
    EACH_LANE(k, row) AT(to, k) = READ(from, k);
  }
}

static const float *framed(const Layer *layer, const Plan *plan, int index) {
  return layer->padding ? plan->saved[index] : plan->activation[index];
}

static void conv_forward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int lanes = plan->lanes, n = (int)taps(layer), places = layer->out_height * layer->out_width;
  Frame f = frame_of(layer, lanes);
  if (layer->padding) {
    fill_zero(plan->saved[index], padded_size(layer) * lanes);
    copy_rows(layer, lanes, plan->saved[index], plan->activation[index], 0);
  }
  int32_t *at = plan->at[index];
  EACH_ITEM(tap, n) {
    int i = (int)tap, across = i % layer->kernel_width, down = i / layer->kernel_width % layer->kernel_height;
    at[i] = (int32_t)(i / (layer->kernel_width * layer->kernel_height) * f.plane + (down * f.width + across) * lanes);
  }
  Terms terms = {first, framed(layer, plan, index), n, 1, 0, n, at};
  Sweep image = {layer->out_height, layer->out_width, f.line, f.step, (int64_t)layer->out_width * lanes, lanes};
  sweep_taps(image, layer->out_channels, lanes, first + (int64_t)layer->out_channels * n, terms,
             plan->activation[index + 1], (int64_t)places * lanes);
}

static void conv_backward(const Layer *layer, const float *first, const Plan *plan, int index) {
  int lanes = plan->lanes, n = (int)taps(layer), places = layer->out_height * layer->out_width, m = layer->out_channels;
  Frame f = frame_of(layer, lanes);
  if (index > plan->lowest) {
    float *below = layer->padding ? plan->padded : plan->below;
    fill_zero(below, padded_size(layer) * lanes);
    Terms terms = {first, plan->delta, 1, n, (int64_t)places * lanes, m, 0};
    Sweep image = {layer->out_height, layer->out_width, (int64_t)layer->out_width * lanes, lanes, f.line, f.step};
    Windows windows = {layer->channels, (int)f.height, (int)f.width, layer->kernel_height, layer->kernel_width, layer->stride};
    sweep_onto_windows(image, windows, lanes, terms, below, plan->at[index]);
    if (layer->padding) copy_rows(layer, lanes, plan->padded, plan->below, 1);
  }
  float *gradient = plan->gradient + layer->offset;
  const float *from = framed(layer, plan, index);
  if (places == 1) { /* a linear layer */
    float *window = plan->partial;
    const int32_t *at = plan->at[index];
    EACH_ROW(i, n, lanes) EACH_LANE(k, lanes) AT(window, i * lanes + k) = READ(from, at[i] + k);
    outer_over_samples(gradient, window + (int64_t)n * lanes, lanes, plan->valid, plan->delta, m, window, n);
  } else {
    Side delta = {plan->delta, (int64_t)places * lanes, (int64_t)layer->out_width * lanes, lanes, 0};
    Image image = {layer->out_height, layer->out_width, padded_size(layer), layer->stride * f.width, layer->stride};
    outer_in_image(gradient, plan->partial, lanes, image, delta, m, from, plan->at[index], n);
  }
  over_positions(gradient + (int64_t)m * n, plan->partial, lanes, plan->delta, (int64_t)places * lanes, lanes, m, places);
}

/* ---- pools: a window's places are numbered row by row ---- */

#define EACH_WINDOW(layer, lanes)                                                                  \
  EACH_ROW(c, layer->channels, lanes)                                                              \
    for (int y = 0; y < layer->out_height; y++)                                                    \
      for (int x = 0; x < layer->out_width; x++) {                                                 \
        int64_t out = ((c * layer->out_height + y) * layer->out_width + x) * lanes;       \
        int64_t in = ((c * layer->height + y * layer->stride) * layer->width + x * layer->stride) * lanes;
#define EACH_PLACE(layer, lanes)                                \
  for (int v = 0, place = 0; v < layer->kernel_height; v++)     \
    for (int u = 0; u < layer->kernel_width; u++, place++) {    \
      int64_t at = in + ((int64_t)v * layer->width + u) * lanes;

static void maxpool_forward(const Layer *layer, const Plan *plan, int index) {
  int lanes = plan->lanes;
  const float *from = plan->activation[index];
  float *to = plan->activation[index + 1];
  int32_t *chosen = (int32_t *)plan->saved[index];
  EACH_WINDOW(layer, lanes)
    EACH_LANE(k, lanes) {
      vec best = READ(from, in + k);
      ivec where_best = INTS(0);
      EACH_PLACE(layer, lanes)
        vec value = READ(from, at + k);
        ivec better = value > best;
        best = where(better, value, best);
        where_best = where_int(better, INTS(place), where_best);
      }
      AT(to, out + k) = best;
      WRITE_INT(chosen, out + k, where_best);
    }
  }
}

/* `apart`: each place is in one window, so that nothing need be zero before. */
INLINE void pool_windows_back(const Layer *layer, const Plan *plan, int index, int largest, int apart) {
  int lanes = plan->lanes;
  const int32_t *chosen = (const int32_t *)plan->saved[index];
  float size = (float)(layer->kernel_height * layer->kernel_width);
  if (!apart) fill_zero(plan->below, (int64_t)layer->inputs * lanes);
  EACH_WINDOW(layer, lanes)
    EACH_LANE(k, lanes) {
      vec d = READ(plan->delta, out + k);
      ivec best = INTS(0);
      if (largest) best = READ_INT(chosen, out + k);
      else d = d / size;
      EACH_PLACE(layer, lanes)
        vec add = d, sum = ZEROS;
        if (largest) add = where_equal(best, place, d);
        if (!apart) sum = READ(plan->below, at + k);
        AT(plan->below, at + k) = sum + add; }
    }
  }
}

static void pool_backward(const Layer *layer, const Plan *plan, int index) {
  int apart = layer->stride == layer->kernel_height && layer->stride == layer->kernel_width &&
              layer->out_height * layer->stride == layer->height && layer->out_width * layer->stride == layer->width;
  if (layer->kind == MAXPOOL && apart) pool_windows_back(layer, plan, index, 1, 1);
  else if (layer->kind == MAXPOOL) pool_windows_back(layer, plan, index, 1, 0);
  else pool_windows_back(layer, plan, index, 0, 0);
}

static void avgpool_forward(const Layer *layer, const Plan *plan, int index) {
  int lanes = plan->lanes;
  const float *from = plan->activation[index];
  float size = (float)(layer->kernel_height * layer->kernel_width);
  EACH_WINDOW(layer, lanes)
    EACH_LANE(k, lanes) {
      vec sum = ZEROS;
      EACH_PLACE(layer, lanes) (void)place; sum = sum + READ(from, at + k); }
      AT(plan->activation[index + 1], out + k) = sum / size;
    }
  }
}
