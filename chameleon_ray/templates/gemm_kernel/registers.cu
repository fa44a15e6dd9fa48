// Stages of the reduction, one after the other: the next is on its way, in registers, while this one
// is used.

__device__ inline void add_stages(float (&sums)[POINTS][ROWS][COLUMNS], Stage* stages,
                                  const float* __restrict__ data,
                                  const float* __restrict__ weight,
                                  const Position (&at)[POSITIONS], unsigned thread, unsigned m0,
                                  unsigned first, unsigned end) {
  Fetched fetched;
  fetch(fetched, data, weight, at, thread, m0, first * STAGE);
  store(stages[0], fetched, thread);
  __syncthreads();
#pragma unroll 1
  for (unsigned s = first; s < end; ++s) {
    if (s + 1 < end) fetch(fetched, data, weight, at, thread, m0, (s + 1) * STAGE);
    multiply(sums, stages[(s - first) % BUFFERS], thread);
    if (BUFFERS == 1) __syncthreads();
    if (s + 1 < end) store(stages[(s + 1 - first) % BUFFERS], fetched, thread);
    __syncthreads();
  }
}
