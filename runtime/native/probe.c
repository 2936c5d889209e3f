/* The roofline probe: what one core of this machine can do at best.
 *
 * Prints one JSON line: f32 multiply-adds per second with the widest vectors the CPU has, and the bandwidth of memory
 * (arrays larger than the caches) for reading and for copying. One thread, about half a second; the best of many short
 * repetitions counts, so that a busy neighbour only costs repetitions.
 *
 * Written with the vector extensions of GCC and Clang. Each width is one instance of the macro KERNELS, compiled for
 * its own instruction set; which one runs is decided at run time.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

enum {
  FMA_STEPS = 20000,      /* loop trips of one compute repetition: well under a millisecond each */
  COMPUTE_REPETITIONS = 400,
  MEMORY_REPETITIONS = 6,
  STREAMS = 8,            /* vectors read per loop trip */
};
static const double COMPUTE_SECONDS = 0.2;
static const size_t MIN_BYTES = (size_t)64 << 20, MAX_BYTES = (size_t)256 << 20;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Results flow into here, so that no loop can be dropped. */
static volatile float sink;

/* One multiply-add per lane that keeps to the accumulator's register. NEON's FMLA overwrites its addend. Elsewhere it is
 * a factor, which -ffp-contract=fast turns into one FMA where there is one; acc + x * y would let the compiler compute
 * x * y once for all. acc stays small in both: no overflow, no denormals. */
#if defined(__aarch64__)
#define MULTIPLY_ADD(acc, x, y) vfmaq_f32((float32x4_t)(acc), (float32x4_t)(x), (float32x4_t)(y))
#else
#define MULTIPLY_ADD(acc, x, y) ((acc) * (x) + (y))
#endif

/* Accumulators stay in registers only if every loop over them disappears. */
#define UNROLLED _Pragma("GCC unroll 32")

/* ACCS independent accumulators hide the latency of the FMA (at least units * latency of them) and leave two registers
 * for the operands. */
#define KERNELS(NAME, TARGET, LANES, ACCS)                                                                           \
  typedef float NAME##_vec __attribute__((vector_size(4 * LANES)));                                                  \
  TARGET static double NAME##_flops(float x_value, float y_value) {                                                  \
    NAME##_vec acc[ACCS], x, y, sum;                                                                                 \
    for (int lane = 0; lane < LANES; ++lane) {                                                                       \
      x[lane] = x_value;                                                                                             \
      y[lane] = y_value;                                                                                             \
    }                                                                                                                \
    UNROLLED for (int i = 0; i < ACCS; ++i) acc[i] = x * (float)i;                                                   \
    for (long step = 0; step < FMA_STEPS; ++step) {                                                                  \
      UNROLLED for (int i = 0; i < ACCS; ++i) acc[i] = MULTIPLY_ADD(acc[i], x, y);                                   \
    }                                                                                                                \
    sum = acc[0];                                                                                                    \
    UNROLLED for (int i = 1; i < ACCS; ++i) sum += acc[i];                                                           \
    for (int lane = 0; lane < LANES; ++lane) sink += sum[lane];                                                      \
    return 2.0 * LANES * ACCS * FMA_STEPS;                                                                           \
  }                                                                                                                  \
  TARGET static void NAME##_read(const float *data, size_t count) {                                                  \
    const NAME##_vec *vectors = (const NAME##_vec *)data;                                                            \
    NAME##_vec acc[STREAMS], sum;                                                                                    \
    memset(acc, 0, sizeof acc);                                                                                      \
    for (size_t v = 0; v < count / LANES; v += STREAMS) {                                                            \
      UNROLLED for (int i = 0; i < STREAMS; ++i) acc[i] += vectors[v + i];                                           \
    }                                                                                                                \
    sum = acc[0];                                                                                                    \
    UNROLLED for (int i = 1; i < STREAMS; ++i) sum += acc[i];                                                        \
    for (int lane = 0; lane < LANES; ++lane) sink += sum[lane];                                                      \
  }

#if defined(__x86_64__)
KERNELS(avx512, __attribute__((target("avx512f"))), 16, 24)
KERNELS(avx2, __attribute__((target("avx2,fma"))), 8, 12)
KERNELS(sse2, , 4, 12)
#elif defined(__aarch64__)
KERNELS(neon, , 4, 24)
#else
KERNELS(scalar, , 1, 12)
#endif

typedef struct {
  const char *name;
  int lanes;
  double (*flops)(float, float);         /* runs FMA_STEPS trips, returns their floating-point operations */
  void (*read)(const float *, size_t);   /* reads that many floats */
} Simd;

static Simd widest(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return (Simd){"avx512", 16, avx512_flops, avx512_read};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return (Simd){"avx2", 8, avx2_flops, avx2_read};
  return (Simd){"sse2", 4, sse2_flops, sse2_read};
#elif defined(__aarch64__)
  return (Simd){"neon", 4, neon_flops, neon_read};
#else
  return (Simd){"scalar", 1, scalar_flops, scalar_read};
#endif
}

/* Best rate over short repetitions, in 1e9 operations per second. */
static double peak_gflops(Simd simd) {
  double best = 0.0;
  const double end = now() + COMPUTE_SECONDS;
  for (int r = 0; r < COMPUTE_REPETITIONS && now() < end; ++r) {
    const double start = now();
    const double rate = 1e-9 * simd.flops(0.999f, 0.001f) / (now() - start);
    if (r > 0 && rate > best) best = rate; /* the first repetition wakes the vector units */
  }
  return best;
}

/* Four times the last level of cache, within bounds that a small board and a short run can bear. */
static size_t array_bytes(void) {
  size_t bytes = MIN_BYTES;
#ifdef _SC_LEVEL3_CACHE_SIZE
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (cache > 0 && (size_t)cache * 4 > bytes) bytes = (size_t)cache * 4;
#endif
  if (bytes > MAX_BYTES) bytes = MAX_BYTES;
  return bytes - bytes % 4096; /* whole pages, and so whole trips of every read loop */
}

/* GB/s of reading the whole array, and of copying one half to the other (bytes read plus bytes written). */
static int bandwidth_gbs(Simd simd, double *read_gbs, double *copy_gbs) {
  const size_t bytes = array_bytes(), half = bytes / 2;
  char *data = aligned_alloc(4096, bytes);
  if (!data) return 0;
  memset(data, 0, bytes); /* touch every page */
  for (int r = 0; r < MEMORY_REPETITIONS; ++r) {
    double start = now();
    simd.read((const float *)data, bytes / sizeof(float));
    const double read = 1e-9 * (double)bytes / (now() - start);
    start = now();
    memcpy(data + (r % 2 ? half : 0), data + (r % 2 ? 0 : half), half);
    const double copy = 1e-9 * (double)bytes / (now() - start);
    sink += data[(size_t)r * 4096];
    if (read > *read_gbs) *read_gbs = read;
    if (copy > *copy_gbs) *copy_gbs = copy;
  }
  free(data);
  return 1;
}

int main(void) {
  const Simd simd = widest();
  double read_gbs = 0.0, copy_gbs = 0.0;
  const double gflops = peak_gflops(simd);
  if (!bandwidth_gbs(simd, &read_gbs, &copy_gbs)) {
    fprintf(stderr, "dlas-probe: no memory for an array of %zu MB\n", array_bytes() >> 20);
    return 1;
  }
  printf("{\"simd\": \"%s\", \"simd_lanes\": %d, \"peak_gflops\": %.1f, \"read_gbs\": %.2f, \"copy_gbs\": %.2f}\n",
         simd.name, simd.lanes, gflops, read_gbs, copy_gbs);
  return 0;
}
