/* exact-2 in C: the same bits as reference/, for one network at a time.

   Reading order: vectors.h and fused.h (one operation), lanes.h (sums), rows.h (loops), functions.h (exp, tanh, ...),
   program.h (layers, and where values lie), layers_*.h, losses.h, network.h (optimizers, a group of samples, a batch, a
   run of steps), then this file. exact.cu is the same over lanes_cuda.h. docs/exact_arithmetic.md is the specification.

   Compile with -ffp-contract=off. Vectors are GNU C's, understood by gcc and clang on any processor. */
#include <fenv.h>

#include "network.h"

/* An epoch's order of the training samples: sorted by the words of its stream, ties by sample. */
enum { DIGITS = 3, DIGIT_BITS = 11 };

/* space: 2 * count words of 64 bits. Sorting by digits from the lowest up keeps the order of equals. */
static void draw_order(const uint32_t *key, int32_t count, int32_t *order, uint64_t *space) {
  uint64_t *from = space, *to = space + count;
  uint32_t places[DIGITS][1 << DIGIT_BITS] = {{0}};
  for (int32_t first = 0; first < count; first += 4 * DRAWS) {
    uint32_t block[DRAWS], word[4][DRAWS];
    for (int l = 0; l < DRAWS; l++) block[l] = (uint32_t)(first / 4 + l);
    philox(key, 0, block, word);
    for (int32_t i = first; i < count && i < first + 4 * DRAWS; i++) {
      uint32_t drawn = word[i % 4][(i - first) / 4];
      from[i] = (uint64_t)drawn << 32 | (uint32_t)i;
      for (int d = 0; d < DIGITS; d++) places[d][drawn >> d * DIGIT_BITS & ((1 << DIGIT_BITS) - 1)]++;
    }
  }
  for (int d = 0; d < DIGITS; d++) {
    uint32_t next = 0;
    for (int v = 0; v < 1 << DIGIT_BITS; v++) {
      uint32_t here = places[d][v];
      places[d][v] = next;
      next += here;
    }
    for (int32_t i = 0; i < count; i++)
      to[places[d][from[i] >> (32 + d * DIGIT_BITS) & ((1 << DIGIT_BITS) - 1)]++] = from[i];
    uint64_t *swap = from;
    from = to;
    to = swap;
  }
  for (int32_t i = 0; i < count; i++) order[i] = (int32_t)(from[i] & 0xffffffff);
}

/* ---- what Python calls, between exact_enter and exact_leave ----

   The host program may have left another rounding mode or flush-to-zero behind; both belong to the thread. */

int32_t exact_environment_bytes(void) { return (int32_t)sizeof(fenv_t); }

void exact_enter(fenv_t *host) {
  fegetenv(host);
  fesetenv(FE_DFL_ENV);
}

void exact_leave(const fenv_t *host) { fesetenv(host); }

/* Whether a fused multiply-add is an instruction here, or some twenty. */
int32_t exact_fuses(void) { return FUSES; }

/* What the host program builds and hands in; it compares its own sizes with these before it does. */
int32_t exact_struct_bytes(int32_t which) {
  const int32_t bytes[] = {sizeof(Layer), sizeof(Program), sizeof(Samples), sizeof(Optimizer)};
  return bytes[which];
}

int64_t exact_scratch_floats(const Program *program) {
  Plan plan;
  return make_plan(program, &plan, 0);
}

void exact_order(const uint32_t *key, int32_t count, int32_t *order, uint64_t *space) {
  draw_order(key, count, order, space);
}

void exact_train(const Program *program, const Samples *samples, const int32_t *order, int32_t batch, int32_t step,
                 int32_t steps, const float *sizes, const uint32_t *keys, const Optimizer *optimizer, float *params,
                 float *moments, float *losses, float *scratch) {
  Plan plan;
  make_plan(program, &plan, scratch);
  train_network(program, &plan, samples, order, batch, step, steps, sizes, keys, optimizer, params, moments, losses);
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
  make_plan(program, &plan, scratch);
  measure_network(program, &plan, samples, count, params, loss, correct);
}
