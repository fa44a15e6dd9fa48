// Multiply-adds in float32, on a GPU's lanes.

typedef float Word;

__device__ inline Word word(const float* numbers) { return numbers[0]; }

// Rows of shared memory stand so far apart that the threads of a warp meet in few banks.
constexpr unsigned PITCH_M = BLOCK_M + 4, PITCH_N = BLOCK_N + 4, SKEW = POINTS > 1 ? 4 : 0;

struct Stage {
  alignas(16) Word weights[WORDS][POINTS * PITCH_M + SKEW];
  alignas(16) Word inputs[WORDS][POINTS * PITCH_N + SKEW];
};

template <int n>
__device__ inline void store_weights(Stage& stage, unsigned k, unsigned m, const Run<n>& words) {
#pragma unroll
  for (int j = 0; j < n; ++j) stage.weights[k + j][m] = words.at[j];
}

// Where the i-th row and the j-th column of a thread lie in its block.
__device__ inline unsigned row_of(unsigned thread, unsigned i) {
  return (i / VECTOR * THREADS_M + thread / THREADS_N) * VECTOR + i % VECTOR;
}

__device__ inline unsigned column_of(unsigned thread, unsigned j) {
  return (j / VECTOR * THREADS_N + thread % THREADS_N) * VECTOR + j % VECTOR;
}

__device__ inline void multiply(float (&sums)[POINTS][ROWS][COLUMNS], const Stage& stage,
                                unsigned thread) {
  typedef Run<VECTOR> Vector;
#pragma unroll (UNROLL < WORDS ? UNROLL : WORDS)
  for (int k = 0; k < WORDS; ++k) {
#pragma unroll
    for (int p = 0; p < POINTS; ++p) {
      Vector a[ROWS / VECTOR], b[COLUMNS / VECTOR];
#pragma unroll
      for (int i = 0; i < ROWS / VECTOR; ++i)
        a[i] = *reinterpret_cast<const Vector*>(
            &stage.weights[k][p * PITCH_M + row_of(thread, i * VECTOR)]);
#pragma unroll
      for (int j = 0; j < COLUMNS / VECTOR; ++j)
        b[j] = *reinterpret_cast<const Vector*>(
            &stage.inputs[k][p * PITCH_N + column_of(thread, j * VECTOR)]);
#pragma unroll
      for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j)
          sums[p][i][j] += a[i / VECTOR].at[i % VECTOR] * b[j / VECTOR].at[j % VECTOR];
    }
  }
}
