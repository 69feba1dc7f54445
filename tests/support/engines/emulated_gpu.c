/* exact.cu on a processor: the threads of a block are fibers that change places at barriers.

   Between two barriers the threads run in another order each time, so that a missing barrier changes the result. A
   thread that waits at another barrier than its neighbours, or leaves early, is an error. */
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { THREADS_MAX = 64, STACK_BYTES = 256 << 10 };

typedef struct {
  ucontext_t context;
  const char *file; /* of the barrier where it waits */
  int line, done;
} Fiber;

static Fiber fiber[THREADS_MAX];
static char stacks[THREADS_MAX][STACK_BYTES];
static ucontext_t scheduler;
static int thread, threads, block, blocks;
static int64_t barriers;

static void wait_for_others(const char *file, int line) {
  fiber[thread].file = file;
  fiber[thread].line = line;
  swapcontext(&fiber[thread].context, &scheduler);
}

static float given_away[THREADS_MAX];

static float exchanged(float x, int with) {
  given_away[thread] = x;
  wait_for_others(__FILE__, __LINE__);
  x = given_away[thread ^ with];
  wait_for_others(__FILE__, __LINE__);
  return x;
}

typedef struct {
  float *to;
  const float *from;
  int floats;
} Copy;

static Copy copies[THREADS_MAX][64]; /* begun by each thread, made when it waits for them */
static int begun[THREADS_MAX];

static void begin_copy(float *to, const float *from, int floats) {
  if (((uintptr_t)to | (uintptr_t)from) % (4 * floats) || begun[thread] == 64) abort();
  copies[thread][begun[thread]++] = (Copy){to, from, floats};
}
static void end_copies(void) {
  for (int i = 0; i < begun[thread]; i++) memcpy(copies[thread][i].to, copies[thread][i].from, 4 * copies[thread][i].floats);
  begun[thread] = 0;
}

#define COPY_ONE(to, from) begin_copy(to, from, 1)
#define COPY_FOUR(to, from) begin_copy(to, from, 4)
#define COPIES_END end_copies()
#define THREAD thread
#define THREADS threads
#define BLOCK block
#define BLOCKS blocks
#define SYNC wait_for_others(__FILE__, __LINE__)
#define SHARED static
#define KERNEL(name) static void name
#define INLINE static inline __attribute__((always_inline))
#define UNROLL
#define in_memory(p) (p)
#define ALIGNED_16 __attribute__((aligned(16)))
#define UNROLL_BY_4
typedef struct {
  float x, y, z, w;
} __attribute__((aligned(16))) Four;
#define FOUR Four
#define EXCHANGE(x, with) exchanged(x, with)
#define APART
#define MAKE(type) (type)
#include "fused.h"
#include "exact.cu"

static void (*kernel)(Job);
static Job job;

static void run_thread(void) {
  kernel(job);
  fiber[thread].done = 1;
}

/* Until every thread is done: each once, from some first one on, forwards or backwards. Returns 0, or -1. */
static int run_block(void) {
  for (int i = 0; i < threads; i++) {
    fiber[i].done = 0;
    getcontext(&fiber[i].context);
    fiber[i].context.uc_stack.ss_sp = stacks[i];
    fiber[i].context.uc_stack.ss_size = STACK_BYTES;
    fiber[i].context.uc_link = &scheduler;
    makecontext(&fiber[i].context, run_thread, 0);
  }
  for (uint32_t order = 1;; barriers++) {
    order = order * 1664525u + 1013904223u;
    int first = (order >> 8) % threads, backwards = order >> 31;
    for (int i = 0; i < threads; i++) {
      thread = (first + (backwards ? threads - i : i)) % threads;
      swapcontext(&scheduler, &fiber[thread].context);
    }
    for (int i = 1; i < threads; i++)
      if (fiber[i].done != fiber[0].done || (!fiber[0].done && fiber[i].line != fiber[0].line) ||
          (!fiber[0].done && fiber[i].file != fiber[0].file))
        return -1;
    if (fiber[0].done) return 0;
  }
}

/* Returns the number of barriers met, or -1 if the threads of a block parted. */
int64_t emulated_launch(const char *name, const Job *given, int grid, int size) {
  fenv_t host;
  job = *given, blocks = grid, threads = size, barriers = 0;
  kernel = strcmp(name, "exact_train") == 0 ? exact_train : strcmp(name, "exact_measure") == 0 ? exact_measure : exact_scratch;
  fegetenv(&host);
  fesetenv(FE_DFL_ENV);
  int parted = 0;
  for (block = 0; block < blocks && !parted; block++) parted = run_block();
  fesetenv(&host);
  return parted ? -1 : barriers;
}
