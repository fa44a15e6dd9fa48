// Stages of the reduction, one after the other: the next ones, all buffers but one, are on their way
// to shared memory and pass through no register (PTX ISA, `cp.async`; sm_80 and newer).

#ifndef INTERPRETED  // the tests' interpreter has these itself
// So many words, or zeros.
template <int n>
__device__ inline void copy_async(void* to, const float* from, bool real) {
  const unsigned at = __cvta_generic_to_shared(to), bytes = real ? 4 * n : 0;
  if constexpr (n == 4)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes));
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(at), "l"(from), "r"(bytes),
                 "n"(4 * n));
}

__device__ inline void end_group() { asm volatile("cp.async.commit_group;"); }

// All groups of this thread but the last ones have arrived.
template <int last>
__device__ inline void wait_for_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(last) : "memory");
}
#endif

__device__ inline void copy_weights(Stage& stage, unsigned k, unsigned m, const float* from,
                                    bool real) {
#if MATH == 0
  copy_async<1>(&stage.weights[k][m], from, real);  // LOAD_M is 1
#else
  copy_async<LOAD_M>(&stage.weights[m][k], from, real);
#endif
}

__device__ inline void copy(Stage& stage, const float* __restrict__ data,
                            const float* __restrict__ weight, const Position (&at)[POSITIONS],
                            unsigned thread, unsigned m0, unsigned k0) {
#pragma unroll
  for (int i = 0; i < FETCHES_M; ++i) {
    const unsigned run = i * THREADS + thread;
    const unsigned m = run / (STAGE / LOAD_M), k = run % (STAGE / LOAD_M) * LOAD_M;
    const bool real = is_filter(m0 + m) && is_summed(k0 + k);
    copy_weights(stage, k, m, real ? weight + (m0 + m) * K + k0 + k : weight, real);
  }
#pragma unroll
  for (int i = 0; i < FETCHES_N; ++i) {
    const Position& from = at[i % POSITIONS];
    const unsigned run = thread % RUNS_N + i % POSITIONS * THREADS;
    const unsigned k = thread / RUNS_N + i / POSITIONS * WORDS_APART;
    const Tap tap = table.of[k0 + k];
    const bool real = is_real(from, tap);
    copy_async<LOAD_N>(&stage.inputs[k][run * LOAD_N],
                       real ? data + from.offset + tap.offset : data, real);
  }
}

__device__ inline void add_stages(float (&sums)[POINTS][ROWS][COLUMNS], Stage* stages,
                                  const float* __restrict__ data,
                                  const float* __restrict__ weight,
                                  const Position (&at)[POSITIONS], unsigned thread, unsigned m0,
                                  unsigned first, unsigned end) {
  constexpr unsigned AHEAD = BUFFERS - 1;
#pragma unroll 1
  for (unsigned s = first; s < first + AHEAD; ++s) {
    if (s < end) copy(stages[s - first], data, weight, at, thread, m0, s * STAGE);
    end_group();
  }
#pragma unroll 1
  for (unsigned s = first; s < end; ++s) {
    wait_for_groups<AHEAD - 1>();
    __syncthreads();  // this stage is there, and nobody uses the one before it any longer
    const unsigned next = s + AHEAD;
    if (next < end) copy(stages[(next - first) % BUFFERS], data, weight, at, thread, m0, next * STAGE);
    end_group();
    multiply(sums, stages[(s - first) % BUFFERS], thread);
  }
}
