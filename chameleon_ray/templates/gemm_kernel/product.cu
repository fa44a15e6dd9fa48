// The product itself: float32, or tensor cores in tf32 or float16.

#if MATH == 0
__device__ inline Word word(const float* numbers) { return numbers[0]; }
#else
#ifndef INTERPRETED  // the tests' interpreter has these itself
__device__ inline unsigned tf32(float number) {
  unsigned found;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(found) : "f"(number));
  return found;
}

__device__ inline unsigned halves(float low, float high) {
  unsigned found;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(found) : "f"(high), "f"(low));
  return found;
}

// 16 x 8 products of rows of 8 words each, by a warp.
__device__ inline void multiply(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if MATH == 1
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
#endif
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
__device__ inline Word word(const float* numbers) {
  return MATH == 1 ? tf32(numbers[0]) : halves(numbers[0], numbers[1]);
}
#endif

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
#pragma unroll
    for (int j = 0; j < LOAD_M / PACKED; ++j)
      stage.weights[k / PACKED + j][m] = word(&fetched.weights[i][j * PACKED]);
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

__device__ inline void multiply(float (&all)[1][ROWS][COLUMNS], const Stage& stage, unsigned thread) {
  auto& sums = all[0];
#if MATH == 0
#pragma unroll (UNROLL < WORDS ? UNROLL : WORDS)
  for (int k = 0; k < WORDS; ++k) {
    float a[ROWS], b[COLUMNS];
#pragma unroll
    for (int i = 0; i < ROWS; i += VECTOR)
      *reinterpret_cast<Run<VECTOR>*>(a + i) =
          *reinterpret_cast<const Run<VECTOR>*>(&stage.weights[k][row_of(thread, i)]);
#pragma unroll
    for (int j = 0; j < COLUMNS; j += VECTOR)
      *reinterpret_cast<Run<VECTOR>*>(b + j) =
          *reinterpret_cast<const Run<VECTOR>*>(&stage.inputs[k][column_of(thread, j)]);
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) sums[i][j] += a[i] * b[j];
  }
#else
  const unsigned within = thread % 4, group = thread % 32 / 4;
#pragma unroll (UNROLL < WORDS ? UNROLL : WORDS)
  for (int k = 0; k < WORDS; k += 8) {
    unsigned a[ROWS / 2][4], b[COLUMNS / 2][2];
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        a[i / 2][i % 2 + 2 * half] = stage.weights[k + 4 * half + within][row_of(thread, i)];
#pragma unroll
    for (int j = 0; j < COLUMNS; j += 2) {
      const unsigned column = column_of(thread, j) - 2 * within + group;
      b[j / 2][0] = stage.inputs[k + within][column];
      b[j / 2][1] = stage.inputs[k + 4 + within][column];
    }
#pragma unroll
    for (int i = 0; i < ROWS; i += 2)
#pragma unroll
      for (int j = 0; j < COLUMNS; j += 2) {
        float four[4] = {sums[i][j], sums[i][j + 1], sums[i + 1][j], sums[i + 1][j + 1]};
        multiply(four, a[i / 2], b[j / 2]);
        sums[i][j] = four[0], sums[i][j + 1] = four[1];
        sums[i + 1][j] = four[2], sums[i + 1][j + 1] = four[3];
      }
  }
#endif
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
