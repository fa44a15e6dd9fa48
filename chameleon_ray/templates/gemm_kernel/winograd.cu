// Winograd's minimal filtering F(2 x 2, 3 x 3) (Lavin and Gray, 2016, section 4.1): filters and
// inputs are transformed on their way to shared memory, sums on theirs to the output. A thread has
// all 16 points of its tiles, so that nothing is exchanged.

__device__ inline Position position_of(unsigned n) {
  const int row = n % IMAGE_N / TILE_COLUMNS, column = n % IMAGE_N % TILE_COLUMNS;
  return position_at<4, 4>(n, row * 2 - PADDING, column * 2 - PADDING);
}

// On its way from global to shared memory.
struct Fetched {
  float weights[FETCHES_M][3][3];
  float inputs[FETCHES_N][4][4];
};

__device__ inline void fetch(Fetched& fetched, const float* __restrict__ data,
                             const float* __restrict__ weight, const Position (&at)[POSITIONS],
                             unsigned thread, unsigned m0, unsigned k0) {
#pragma unroll
  for (int i = 0; i < FETCHES_M; ++i) {
    const unsigned pair = i * THREADS + thread, m = m0 + pair / STAGE, k = k0 + pair % STAGE;
    const bool real = is_filter(m) && is_summed(k);
#pragma unroll
    for (int j = 0; j < 9; ++j)
      fetched.weights[i][j / 3][j % 3] = real ? weight[(m * K + k) * 9 + j] : 0.0f;
  }
#pragma unroll
  for (int i = 0; i < FETCHES_N; ++i) {
    const Position& from = at[i % POSITIONS];
    const unsigned k = k0 + thread / RUNS_N + i / POSITIONS * WORDS_APART;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const int y = j / 4, x = j % 4;
      const bool real = is_summed(k) && (from.real & taps(y, x)) == taps(y, x);
      fetched.inputs[i][y][x] =
          real ? data[from.offset + (k * HEIGHT + y) * WIDTH + x] : 0.0f;
    }
  }
}

__device__ inline void store(Stage& stage, const Fetched& fetched, unsigned thread) {
#pragma unroll
  for (int i = 0; i < FETCHES_M; ++i) {
    const unsigned pair = i * THREADS + thread, m = pair / STAGE, k = pair % STAGE;
    float half[4][3];  // G g, and then (G g) G^T
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      const float a = fetched.weights[i][0][x], b = fetched.weights[i][1][x],
                  c = fetched.weights[i][2][x];
      half[0][x] = a, half[1][x] = 0.5f * (a + b + c), half[2][x] = 0.5f * (a - b + c);
      half[3][x] = c;
    }
#pragma unroll
    for (int y = 0; y < 4; ++y) {
      const float a = half[y][0], b = half[y][1], c = half[y][2];
      Word* to = &stage.weights[k][4 * y * PITCH_M + m];
      to[0] = a, to[PITCH_M] = 0.5f * (a + b + c), to[2 * PITCH_M] = 0.5f * (a - b + c);
      to[3 * PITCH_M] = c;
    }
  }
#pragma unroll
  for (int i = 0; i < FETCHES_N; ++i) {
    const unsigned n = thread % RUNS_N + i % POSITIONS * THREADS;
    const unsigned k = thread / RUNS_N + i / POSITIONS * WORDS_APART;
    float half[4][4];  // B^T d, and then (B^T d) B
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      const float a = fetched.inputs[i][0][x], b = fetched.inputs[i][1][x],
                  c = fetched.inputs[i][2][x], d = fetched.inputs[i][3][x];
      half[0][x] = a - c, half[1][x] = b + c, half[2][x] = c - b, half[3][x] = b - d;
    }
#pragma unroll
    for (int y = 0; y < 4; ++y) {
      const float a = half[y][0], b = half[y][1], c = half[y][2], d = half[y][3];
      Word* to = &stage.inputs[k][4 * y * PITCH_N + n];
      to[0] = a - c, to[PITCH_N] = b + c, to[2 * PITCH_N] = c - b, to[3 * PITCH_N] = b - d;
    }
  }
}

__device__ inline void write(float* __restrict__ conv, const float (&sums)[POINTS][ROWS][COLUMNS],
                             unsigned thread, unsigned m0, unsigned n0) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
      const unsigned m = m0 + row_of(thread, i), n = n0 + column_of(thread, j), tile = n % IMAGE_N;
      const unsigned row = tile / TILE_COLUMNS * 2, column = tile % TILE_COLUMNS * 2;
      float half[2][4];  // A^T s, and then (A^T s) A
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const float a = sums[x][i][j], b = sums[4 + x][i][j], c = sums[8 + x][i][j],
                    d = sums[12 + x][i][j];
        half[0][x] = a + b + c, half[1][x] = b - c - d;
      }
      float* to = conv + (n / IMAGE_N * M + m) * PIXELS + row * OUT_WIDTH + column;
#pragma unroll
      for (int y = 0; y < 2; ++y) {
        const float a = half[y][0], b = half[y][1], c = half[y][2], d = half[y][3];
        if (!is_filter(m) || !is_input(n) || row + y >= OUT_HEIGHT) continue;
        to[y * OUT_WIDTH] = a + b + c;
        if (column + 1 < OUT_WIDTH) to[y * OUT_WIDTH + 1] = b - c - d;
      }
    }
}
