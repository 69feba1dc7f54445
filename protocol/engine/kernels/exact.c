/* exact-2 in C: the same bits as reference/, for one network at a time.

   Reading order: vectors.h and fused.h (one operation), lanes.h (sums), rows.h (loops), functions.h (exp, tanh, ...),
   program.h (layers, and where values lie), layers_*.h, losses.h, network.h (optimizers, a group of samples, a batch, a
   run of steps), initial.h (orthogonal weights), then this file. exact.cu is the same over lanes_cuda.h.
   docs/exact_arithmetic.md is the specification.

   Compile with -ffp-contract=off. Vectors are GNU C's, understood by gcc and clang on any processor. */
#include <fenv.h>

#include "initial.h"
#include "network.h"

/* An epoch's order of the training samples: sorted by the words of its stream, ties by sample. */
enum { DIGITS_MAX = 4, DIGIT_BITS_MAX = 11, FEW = 4096 };

/* space: 2 * count words of 64 bits. Sorting by digits from the lowest up keeps the order of equals. Of few samples four
   digits of 8 bits are sooner done than three of 11, whose counts are many. */
static void draw_order(const uint32_t *key, int32_t count, int32_t *order, uint64_t *space) {
  uint64_t *from = space, *to = space + count;
  int bits = count < FEW ? 8 : DIGIT_BITS_MAX, digits = (32 + bits - 1) / bits;
  uint32_t places[DIGITS_MAX][1 << DIGIT_BITS_MAX], mask = (1u << bits) - 1;
  for (int d = 0; d < digits; d++) memset(places[d], 0, sizeof(uint32_t) << bits);
  for (int32_t first = 0; first < count; first += 4 * DRAWS) {
    uint32_t block[DRAWS], word[4][DRAWS];
    for (int l = 0; l < DRAWS; l++) block[l] = (uint32_t)(first / 4 + l);
    philox(key, 0, block, word);
    for (int32_t i = first; i < count && i < first + 4 * DRAWS; i++) {
      uint32_t drawn = word[i % 4][(i - first) / 4];
      from[i] = (uint64_t)drawn << 32 | (uint32_t)i;
      for (int d = 0; d < digits; d++) places[d][drawn >> d * bits & mask]++;
    }
  }
  for (int d = 0; d < digits; d++) {
    uint32_t next = 0;
    for (uint32_t v = 0; v <= mask; v++) {
      uint32_t here = places[d][v];
      places[d][v] = next;
      next += here;
    }
    for (int32_t i = 0; i < count; i++)
      to[places[d][from[i] >> (32 + d * bits) & mask]++] = from[i];
    uint64_t *swap = from;
    from = to;
    to = swap;
  }
  for (int32_t i = 0; i < count; i++) order[i] = (int32_t)(from[i] & 0xffffffff);
}

/* ---- what Python calls; all but exact_train and exact_evaluate between exact_enter and exact_leave ----

   The host program may have left another rounding mode or flush-to-zero behind; both belong to the thread. */

int32_t exact_environment_bytes(void) { return (int32_t)sizeof(fenv_t); }

void exact_enter(fenv_t *host) {
  fegetenv(host);
  fesetenv(FE_DFL_ENV);
}

void exact_leave(const fenv_t *host) { fesetenv(host); }

/* Whether a fused multiply-add is an instruction here, or some twenty. */
int32_t exact_fuses(void) { return FUSES; }

/* One network of a call. Its epochs' orders are drawn as they are needed: `epochs` has the key of each that the steps
   touch, `kept` (one word a sample) the order of the first one if `ready`, and afterwards that of the last one. */
typedef struct {
  int64_t step, ready;
  const float *sizes;
  const uint32_t *keys, *epochs;
  int32_t *kept;
  float *params, *moments, *losses;
} Network;

/* What the host program builds and hands in; it compares its own sizes with these before it does. */
int32_t exact_struct_bytes(int32_t which) {
  const int32_t bytes[] = {sizeof(Layer), sizeof(Program), sizeof(Samples), sizeof(Optimizer), sizeof(Network)};
  return bytes[which];
}

int64_t exact_scratch_floats(const Program *program) {
  Plan plan;
  return make_plan(program, &plan, 0);
}

void exact_order(const uint32_t *key, int32_t count, int32_t *order, uint64_t *space) {
  draw_order(key, count, order, space);
}

int64_t exact_orthogonal_doubles(int32_t rows, int32_t columns) { return orthogonal_doubles(rows, columns); }

/* A weight array of some networks, whose streams have these keys (two words each). out: networks x rows x columns. */
void exact_orthogonal(const uint32_t *keys, int32_t networks, uint32_t start, int32_t rows, int32_t columns, double *out,
                      double *space) {
  for (int32_t k = 0; k < networks; k++)
    draw_orthogonal(keys + 2 * k, start, rows, columns, out + (int64_t)k * rows * columns, space);
}

/* The rows of a network's next `total` samples; space as in draw_order. */
static void draw_batches(const Network *network, int64_t first, int32_t count, int64_t total, int32_t *order,
                         uint64_t *space) {
  const uint32_t *epoch = network->epochs;
  int64_t from = first % count, ready = network->ready;
  for (int64_t filled = 0; filled < total; epoch += 2, ready = 0, from = 0) {
    if (!ready) draw_order(epoch, count, network->kept, space);
    int64_t taken = count - from < total - filled ? count - from : total - filled;
    memcpy(order + filled, network->kept + from, sizeof(int32_t) * taken);
    filled += taken;
  }
}

/* Train networks until none is left. Any number of threads make this call with the same `next`, which counts those that
   were begun, and with an order (steps x batch), a space and a scratch of their own. */
void exact_train(const Program *program, const Samples *samples, int32_t count, int32_t batch, int32_t steps,
                 const Optimizer *optimizer, const Network *networks, int32_t number, int32_t *next, int32_t *order,
                 uint64_t *space, float *scratch) {
  fenv_t host;
  Plan plan;
  exact_enter(&host);
  make_plan(program, &plan, scratch);
  for (int32_t k; (k = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < number;) {
    const Network *one = networks + k;
    draw_batches(one, one->step * batch, count, (int64_t)steps * batch, order, space);
    train_network(program, &plan, samples, order, batch, (int)one->step, steps, one->sizes, one->keys, optimizer,
                  one->params, one->moments, one->losses);
  }
  exact_leave(&host);
}

/* Draw networks' batches until none is left: what a card is given. order: number x steps x batch. */
void exact_draw(const Network *networks, int32_t number, int32_t *next, int32_t count, int32_t batch, int32_t steps,
                int32_t *order, uint64_t *space) {
  int64_t total = (int64_t)steps * batch;
  for (int32_t k; (k = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < number;)
    draw_batches(networks + k, networks[k].step * batch, count, total, order + k * total, space);
}

/* Measure networks until none is left, as exact_train trains them, but up to `together` for each load of the samples.
   correct: NULL where nobody asks. */
void exact_evaluate(const Program *program, const Samples *samples, int32_t count, const float *const *params,
                    int32_t number, int32_t together, int32_t *next, float *losses, int64_t *correct, float *scratch) {
  fenv_t host;
  Plan plan;
  exact_enter(&host);
  make_plan(program, &plan, scratch);
  for (int32_t k; (k = __atomic_fetch_add(next, together, __ATOMIC_RELAXED)) < number;) {
    int32_t some = number - k < together ? number - k : together;
    measure_networks(program, &plan, samples, count, params + k, some, losses + k, correct ? correct + k : 0);
  }
  exact_leave(&host);
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
