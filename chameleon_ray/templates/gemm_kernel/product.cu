// The inputs of a convolution as they are, for the product.

__device__ inline Position position_of(unsigned n) {
  const int row = n % PIXELS / OUT_WIDTH, column = n % PIXELS % OUT_WIDTH;
  return position_at<FILTER_HEIGHT, FILTER_WIDTH>(n, row * STRIDE - PADDING,
                                                  column * STRIDE - PADDING);
}

// For each k, how far its input lies from a position, and which row and column it is in. A table,
// since divisions for each input would take as long as what is done with it.
struct alignas(8) Tap {
  int offset;
  unsigned at;
};

struct Taps {
  Tap of[STAGES * STAGE];
};

__device__ constexpr Taps all_taps() {
  Taps found{};
  for (unsigned k = 0; k < STAGES * STAGE; ++k) {
    const int channel = k / (FILTER_HEIGHT * FILTER_WIDTH);
    const int y = k / FILTER_WIDTH % FILTER_HEIGHT, x = k % FILTER_WIDTH;
    found.of[k].offset = k < K ? (channel * HEIGHT + y) * WIDTH + x : 0;
    found.of[k].at = k < K ? taps(y, x) : taps(15, 15);  // which is never real
  }
  return found;
}

#if 8 * (CHANNELS * FILTER_HEIGHT * FILTER_WIDTH + STAGE) < 60 << 10  // of 64 KiB
__constant__ Taps table = all_taps();
#else
__device__ const Taps table = all_taps();
#endif

__device__ inline bool is_real(const Position& from, const Tap& tap) {
  return (from.real & tap.at) == tap.at;
}

// On its way from global to shared memory.
struct Fetched {
  float weights[FETCHES_M][LOAD_M];
  float inputs[FETCHES_N][PACKED][LOAD_N];
};

__device__ inline void fetch(Fetched& fetched, const float* __restrict__ data,
                             const float* __restrict__ weight, const Position (&at)[POSITIONS],
                             unsigned thread, unsigned m0, unsigned k0) {
#pragma unroll
  for (int i = 0; i < FETCHES_M; ++i) {
    const unsigned run = i * THREADS + thread;
    const unsigned m = m0 + run / (STAGE / LOAD_M), k = k0 + run % (STAGE / LOAD_M) * LOAD_M;
    const bool real = is_filter(m) && is_summed(k);  // LOAD_M divides K
    const Run<LOAD_M> found =
        real ? *reinterpret_cast<const Run<LOAD_M>*>(weight + m * K + k) : Run<LOAD_M>{};
#pragma unroll
    for (int j = 0; j < LOAD_M; ++j) fetched.weights[i][j] = found.at[j];
  }
#pragma unroll
  for (int i = 0; i < FETCHES_N; ++i) {
    const Position& from = at[i % POSITIONS];
    const unsigned k = k0 + (thread / RUNS_N + i / POSITIONS * WORDS_APART) * PACKED;
#pragma unroll
    for (int p = 0; p < PACKED; ++p) {
      const Tap tap = table.of[k + p];
#if LOAD_N == 1
      fetched.inputs[i][p][0] = is_real(from, tap) ? data[from.offset + tap.offset] : 0.0f;
#else  // filters of 1 x 1, without stride and padding: pixels lie side by side
      const Run<LOAD_N> found =
          is_real(from, tap)
              ? *reinterpret_cast<const Run<LOAD_N>*>(data + from.offset + tap.offset)
              : Run<LOAD_N>{};
#pragma unroll
      for (int j = 0; j < LOAD_N; ++j) fetched.inputs[i][p][j] = found.at[j];
#endif
    }
  }
}

__device__ inline void store(Stage& stage, const Fetched& fetched, unsigned thread) {
#pragma unroll
  for (int i = 0; i < FETCHES_M; ++i) {
    const unsigned run = i * THREADS + thread;
    const unsigned m = run / (STAGE / LOAD_M), k = run % (STAGE / LOAD_M) * LOAD_M;
    Run<LOAD_M / PACKED, Word> words;
#pragma unroll
    for (int j = 0; j < LOAD_M / PACKED; ++j) words.at[j] = word(&fetched.weights[i][j * PACKED]);
    store_weights(stage, k / PACKED, m, words);
  }
#pragma unroll
  for (int i = 0; i < FETCHES_N; ++i) {
    const unsigned run = thread % RUNS_N + i % POSITIONS * THREADS;
    const unsigned k = thread / RUNS_N + i / POSITIONS * WORDS_APART;
    Run<LOAD_N, Word> words;
#pragma unroll
    for (int j = 0; j < LOAD_N; ++j) {
      const float numbers[2] = {fetched.inputs[i][0][j], fetched.inputs[i][PACKED - 1][j]};
      words.at[j] = word(numbers);
    }
    *reinterpret_cast<Run<LOAD_N, Word>*>(&stage.inputs[k][run * LOAD_N]) = words;
  }
}

__device__ inline void write(float* __restrict__ conv, const float (&sums)[1][ROWS][COLUMNS],
                             unsigned thread, unsigned m0, unsigned n0) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    const unsigned m = m0 + row_of(thread, i);
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
      const unsigned n = n0 + column_of(thread, j);
      const unsigned image = BATCH == 1 ? 0 : n / PIXELS;
      if (is_filter(m) && is_input(n)) conv[(image * M + m) * PIXELS + n - image * PIXELS] = sums[0][i][j];
    }
  }
}
