/* exact-2 on a GPU: a thread block trains one network after another, in its own working space.

   network.h and all below it is what the C engine runs; lanes_cuda.h, tiles_cuda.h and gradients_cuda.h share each of its
   loops and sums among the block's threads. NVRTC compiles it with -fmad=false, which leaves division and square root rounded correctly and keeps
   subnormals. tests/support/engines/emulated_gpu.c compiles the same lines for a processor. */
#define ONE_BLOCK
#include "network.h"

typedef struct { /* everything lies in the card's memory; K networks */
  const Program *program;
  const Optimizer *optimizer;
  Samples samples;
  const int32_t *step;  /* K: where each network stood before the first of `all_steps` */
  const int32_t *order; /* K x all_steps x batch */
  const float *sizes;   /* K x all_steps x 3 */
  const uint32_t *keys; /* K x layers x 2 */
  float *params, *moments, *losses; /* K x parameters, K x 2 x parameters, K x all_steps */
  int64_t *correct;                 /* K: targets met, when measuring */
  float *scratch;                   /* for each block */
  int64_t scratch_floats;
  int32_t networks, batch, all_steps;
  int32_t from, steps; /* of all_steps, those to do now */
} Job;

/* Every thread of the block sees the same plan. */
#define PLAN_OF_BLOCK                                                                       \
  SHARED Plan plan;                                                                         \
  ALONE(make_plan(job.program, &plan, job.scratch + (int64_t)BLOCK * job.scratch_floats);)

KERNEL(exact_train)(Job job) {
  PLAN_OF_BLOCK
  int64_t parameters = job.program->parameters;
  for (int64_t k = BLOCK; k < job.networks; k += BLOCKS) {
    int64_t first = k * job.all_steps + job.from;
    train_network(job.program, &plan, &job.samples, job.order + first * job.batch, job.batch, job.step[k] + job.from,
                  job.steps, job.sizes + 3 * first, job.keys + k * 2 * job.program->layers, job.optimizer,
                  job.params + k * parameters, job.moments + k * 2 * parameters, job.losses + first);
  }
}

/* The loss of `batch` samples in order, of each network. */
KERNEL(exact_measure)(Job job) {
  PLAN_OF_BLOCK
  for (int64_t k = BLOCK; k < job.networks; k += BLOCKS) {
    const float *params = job.params + k * job.program->parameters;
    measure_networks(job.program, &plan, &job.samples, job.batch, &params, 1, job.losses + k, job.correct + k);
  }
}

/* Into `correct`: floats of working space that a block needs. */
KERNEL(exact_scratch)(Job job) {
  SHARED Plan plan;
  ALONE(*job.correct = make_plan(job.program, &plan, 0);)
}
