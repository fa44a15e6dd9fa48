// A block's work: stages of the reduction, one after the other, and then the output.

static_assert(sizeof(Stage) * BUFFERS == SHARED_BYTES, "what a launch asks for");

#if SPLIT > 1
// Sums of parts of k. Who is last of a tile adds them, always in the same order.
constexpr unsigned SUMS = POINTS * ROWS * COLUMNS;
__device__ float partial[SPLIT * TILES_M * TILES_N * SUMS * THREADS];
__device__ unsigned arrived[TILES_M * TILES_N];

// Leaves the sums of all parts with the last block that comes; whether this is the one, which its
// threads tell each other in `last`.
__device__ inline bool join(float (&sums)[POINTS][ROWS][COLUMNS], Word& last, unsigned thread,
                            unsigned tile, unsigned part) {
  float* parts = partial + tile * SPLIT * SUMS * THREADS + thread;
  float* mine = &sums[0][0][0];
#pragma unroll
  for (int i = 0; i < SUMS; ++i) parts[(part * SUMS + i) * THREADS] = mine[i];
  __threadfence();
  __syncthreads();
  if (thread == 0) {
    __threadfence();  // what the others wrote is seen before that this block has come
    last = atomicAdd(&arrived[tile], 1u) == SPLIT - 1;
    __threadfence();
  }
  __syncthreads();
  if (last == 0) return false;
  if (thread == 0) arrived[tile] = 0;  // for the next launch
#pragma unroll
  for (int i = 0; i < SUMS; ++i) mine[i] = 0.0f;
#pragma unroll 1
  for (int p = 0; p < SPLIT; ++p)
#pragma unroll
    for (int i = 0; i < SUMS; ++i) mine[i] += __ldcg(&parts[(p * SUMS + i) * THREADS]);
  return true;
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS)
    main_kernel(const float* __restrict__ data, const float* __restrict__ weight,
                float* __restrict__ conv) {
#ifdef INTERPRETED
  Stage* stages = reinterpret_cast<Stage*>(shared_memory);
#else
  extern __shared__ Stage stages[];
#endif
  const unsigned thread = threadIdx.x, tile = blockIdx.x, part = blockIdx.y;
  const unsigned m0 = (RASTER ? tile / TILES_N : tile % TILES_M) * BLOCK_M;
  const unsigned n0 = (RASTER ? tile % TILES_N : tile / TILES_M) * BLOCK_N;
  const unsigned first = part * STAGES_EACH;
  const unsigned end = first + STAGES_EACH < STAGES ? first + STAGES_EACH : STAGES;
  Position at[POSITIONS];
#pragma unroll
  for (int i = 0; i < POSITIONS; ++i)
    at[i] = position_of(n0 + (thread % RUNS_N + i * THREADS) * LOAD_N);
  float sums[POINTS][ROWS][COLUMNS] = {};
  add_stages(sums, stages, data, weight, at, thread, m0, first, end);
#if SPLIT > 1
  if (!join(sums, stages[0].weights[0][0], thread, tile, part)) return;
#endif
  write(conv, sums, thread, m0, n0);
}
