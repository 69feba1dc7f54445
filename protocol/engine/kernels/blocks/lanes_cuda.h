/* lanes.h and rows.h for one thread block that trains one network: the same sums, the same order of operations. Here:
   the machine, loops and choosing; the sums are in tiles_cuda.h and gradients_cuda.h.

   A vector is one float. Every function here is called by all threads of the block with the same arguments; they share
   its outputs among them, and it ends with a barrier, so that all writes are seen by what follows. Whoever compiles
   this says what THREAD, THREADS and SYNC are: NVRTC below, or an emulator of threads on a processor. */
#pragma once

#ifdef __CUDACC_RTC__
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned long long uintptr_t;
#define THREAD ((int)threadIdx.x)
#define THREADS BLOCK_THREADS
#define ALIGNED_16 __align__(16)
template <class T> static __forceinline__ T *in_memory(T *p) { /* not shared by the block: tells the compiler */
  __builtin_assume(__isGlobal(p));
  return p;
}
#define BLOCK ((int)blockIdx.x)
#define BLOCKS ((int)gridDim.x)
#define SYNC __syncthreads()
#define SHARED __shared__
#ifndef BLOCK_THREADS
#define BLOCK_THREADS 128 /* driver.py's THREADS */
#define BLOCKS_MIN 4      /* of a multiprocessor */
#endif
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(BLOCK_THREADS, BLOCKS_MIN) name
#define INLINE static __forceinline__
#define UNROLL _Pragma("unroll")
#define UNROLL_BY_4 _Pragma("unroll 4")
#define FOUR float4
#if __CUDA_ARCH__ >= 800 /* copies that the card makes while its threads compute */
#define COPY(to, from, bytes)                                                            \
  asm volatile("cp.async.ca.shared.global [%0], [%1], " #bytes ";" ::"r"((unsigned)__cvta_generic_to_shared(to)), \
               "l"(__cvta_generic_to_global(from)) : "memory")
#define COPY_ONE(to, from) COPY(to, from, 4)
#define COPY_FOUR(to, from) COPY(to, from, 16)
#define COPIES_END asm volatile("cp.async.wait_all;" ::: "memory")
#else
#define COPY_ONE(to, from) (*(to) = *(from))
#define COPY_FOUR(to, from) (*(float4 *)(to) = *(const float4 *)(from))
#define COPIES_END
#endif
#define EXCHANGE(x, with) __shfl_xor_sync(0xffffffffu, x, with) /* the value of the thread that is `with` away */
#define APART __noinline__ /* compiled once, not at every call: seconds instead of a minute */
#define MAKE(type) type
#define NULL 0
#endif
#define restrict /* read-only loads are not coherent with a block's own writes */

#define LANES 16
#define LANES_MAX 64
#define QUAD 4 /* lanes that a thread computes together: one load */
#define VW QUAD
#define ROWS 8  /* outputs that a thread computes together at most */
#define DEPTH 8 /* terms that the block holds in shared memory, while it fetches as many for the next round */
#define COLUMNS 64 /* lanes of a tile of outputs at most */
#define HEIGHT 132 /* rows of a tile at most, and four that keep neighbouring terms off the same banks */
#define DEEP 4  /* terms that a thread loads before it adds the first */
#define TILE 4  /* rows and columns of a weight gradient that 16 threads have together */
#define TILE_ROWS 0
#define SQUARES 64

INLINE void load_quad(const float *from, float value[QUAD]) { /* `from` is a multiple of 16 bytes */
  FOUR four = *(const FOUR *)from;
  value[0] = four.x, value[1] = four.y, value[2] = four.z, value[3] = four.w;
}

/* The first `some` of four. */
INLINE void store_quad(float *to, const float value[QUAD], int some) {
  FOUR four = {value[0], value[1], value[2], value[3]};
  if (some >= QUAD && (uintptr_t)to % sizeof four == 0)
    *(FOUR *)to = four;
  else
    UNROLL for (int l = 0; l < QUAD; l++) if (l < some) to[l] = value[l];
}

typedef float vec;
typedef int32_t ivec;
#define ZEROS 0.0f
#define INTS(n) (n)
#ifdef __CUDACC_RTC__
INLINE float fused_one(float a, float b, float c) { return __fmaf_rn(a, b, c); } /* -fmad=false leaves it alone */
#endif
INLINE vec fused(vec a, vec b, vec c) { return fused_one(a, b, c); }
INLINE vec all_lanes(float x) { return x; }

/* ---- loops: the threads take turns, then wait for each other ---- */

#define EACH_FROM_THREAD(i, count) \
  for (int once_ = 1; once_; once_ = 0, SYNC) for (int64_t i = THREAD; i < (count); i += THREADS)
#define EACH_ITEM(i, count) EACH_FROM_THREAD(i, count)
#define EACH_VEC(k, count) EACH_FROM_THREAD(k, count)
#define EACH_ROW(row, rows, lanes)                           \
  EACH_FROM_THREAD(item_, (int64_t)(rows) * (lanes))         \
  for (int64_t row = (int32_t)item_ / (int32_t)(lanes), own_ = (int32_t)item_ % (int32_t)(lanes), go_ = 1; go_; go_ = 0)
#define EACH_LANE(k, lanes) for (int64_t k = own_, go_on_ = 1; go_on_; go_on_ = 0)
#define DRAWS 1
#define EACH_DRAW(k, lanes) EACH_LANE(k, lanes)
#define ALONE(...)                  \
  {                                 \
    SYNC;                           \
    if (THREAD == 0) {__VA_ARGS__}  \
    SYNC;                           \
  }

#define AT(p, k) in_memory(p)[k]
#define READ(p, k) in_memory(p)[k]
#define READ_INT(p, k) in_memory(p)[k]
#define WRITE_INT(p, k, value) (in_memory(p)[k] = (value))

static void fill_zero(float *to, int64_t floats) { EACH_ITEM(k, floats) to[k] = 0.0f; }
static void copy_floats(float *to, const float *from, int64_t floats) { EACH_ITEM(k, floats) to[k] = from[k]; }

/* ---- choosing ---- */

INLINE vec smaller(vec a, float b) { return a < b ? a : b; }
INLINE vec larger(vec a, float b) { return a > b ? a : b; }
INLINE vec where(ivec condition, vec yes, vec no) { return condition ? yes : no; }
INLINE ivec where_int(ivec condition, ivec yes, ivec no) { return condition ? yes : no; }
INLINE vec where_positive(vec condition, vec value) { return condition > 0 ? value : 0.0f; }
INLINE vec where_equal(ivec a, int b, vec value) { return a == b ? value : 0.0f; }
INLINE vec kept(vec value, int lane, int valid) { return lane < valid ? value : 0.0f; }

#ifdef __CUDACC_RTC__
INLINE ivec bits_of(vec x) { return __float_as_int(x); }
INLINE vec from_bits(ivec x) { return __int_as_float(x); }
#else
INLINE ivec bits_of(vec x) { return ((union {vec f; ivec i;}){x}).i; }
INLINE vec from_bits(ivec x) { return ((union {ivec i; vec f;}){x}).f; }
#endif
INLINE ivec to_int(vec x) { return (ivec)x; }
INLINE vec to_float(ivec x) { return (vec)x; }
INLINE vec inverse_root(vec x) { return 1.0f / sqrtf(x); }
/* ---- rows of samples ---- */

APART static void load_rows(const void *data, int as_bytes, float scale, int64_t width, const int32_t *rows, int first,
                      int valid, int lanes, float *out) {
  EACH_ROW(f, width, lanes) EACH_LANE(lane, lanes) {
    float value = 0.0f;
    if (lane < valid) {
      int64_t at = (rows ? rows[lane] : first + lane) * width + f;
      value = as_bytes ? (float)((const uint8_t *)data)[at] * scale : ((const float *)data)[at];
    }
    out[f * lanes + lane] = value;
  }
}
