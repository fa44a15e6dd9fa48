// A convolution as a product of matrices, one of which is never built (implicit GEMM):
//
//   conv[m, n] = sum over k of weight[m, k] * input[k, n]
//
// m counts filters, n pixels of the output (image, row, column), k (channel, filter row, filter
// column). NCHW, float32. With Winograd's transforms there are 16 such products, of tiles of 2 x 2
// pixels, and k counts channels. measure/cuda_gemm_source.py defines the shape and the knobs, in
// capitals, before this, and after it come product.cu or winograd.cu, and kernel.cu;
// templates/cuda_gemm.py says what the knobs are.

constexpr int PIXELS = OUT_HEIGHT * OUT_WIDTH;
#if WINOGRAD
constexpr int POINTS = 16, K = CHANNELS;
constexpr int TILE_COLUMNS = (OUT_WIDTH + 1) / 2, IMAGE_N = (OUT_HEIGHT + 1) / 2 * TILE_COLUMNS;
#else
constexpr int POINTS = 1, K = CHANNELS * FILTER_HEIGHT * FILTER_WIDTH;
constexpr int IMAGE_N = PIXELS;
#endif
constexpr int M = FILTERS, N = BATCH * IMAGE_N;
constexpr int THREADS = THREADS_M * THREADS_N;
constexpr int BLOCK_M = THREADS_M * ROWS, BLOCK_N = THREADS_N * COLUMNS;
constexpr int TILES_M = (M + BLOCK_M - 1) / BLOCK_M, TILES_N = (N + BLOCK_N - 1) / BLOCK_N;
constexpr int STAGES = (K + STAGE - 1) / STAGE, STAGES_EACH = (STAGES + SPLIT - 1) / SPLIT;
constexpr int PACKED = MATH == 2 ? 2 : 1;  // numbers, one k after the other, in a word
constexpr int WORDS = STAGE / PACKED;      // of a stage, for each m and n

// What a thread fetches of a stage: so many times LOAD_M weights along k, LOAD_N inputs along n.
constexpr int FETCHES_M = BLOCK_M * STAGE / LOAD_M / THREADS;
constexpr int FETCHES_N = BLOCK_N * WORDS / LOAD_N / THREADS;
constexpr int RUNS_N = BLOCK_N / LOAD_N;                              // of inputs, for each k
constexpr int POSITIONS = RUNS_N > THREADS ? RUNS_N / THREADS : 1;    // of them, of a thread
constexpr int WORDS_APART = THREADS > RUNS_N ? THREADS / RUNS_N : 1;  // from one to its next

template <int n, typename T = float>
struct alignas(4 * n) Run {
  T at[n];
};

#if MATH == 0
typedef float Word;
#else
typedef unsigned Word;
#endif

// Rows of shared memory stand so far apart that the threads of a warp meet in few banks.
constexpr int PITCH_M = BLOCK_M + (MATH ? (40 - BLOCK_M % 32) % 32 : 4);
constexpr int PITCH_N = BLOCK_N + (MATH ? (40 - BLOCK_N % 32) % 32 : 4);
constexpr int SKEW = POINTS > 1 ? 4 : 0;

struct Stage {
  alignas(16) Word weights[WORDS][POINTS * PITCH_M + SKEW];
  alignas(16) Word inputs[WORDS][POINTS * PITCH_N + SKEW];
};

// Where the input of one n lies: its filter's first row and column, padding included.
struct Position {
  int offset, row, column;
  bool inside;
};

__device__ inline Position position_at(int n, int row, int column) {
  return {(n / IMAGE_N * CHANNELS * HEIGHT + row) * WIDTH + column, row, column, n < N};
}

// Where the i-th row and the j-th column of a thread lie in its block.
__device__ inline int row_of(int thread, int i) {
#if MATH == 0
  return (i / VECTOR * THREADS_M + thread / THREADS_N) * VECTOR + i % VECTOR;
#else
  const int warp = thread / 32 % (THREADS_M / 8), group = thread % 32 / 4;
  return warp * ROWS * 8 + i * 8 + group;
#endif
}

__device__ inline int column_of(int thread, int j) {
#if MATH == 0
  return (j / VECTOR * THREADS_N + thread % THREADS_N) * VECTOR + j % VECTOR;
#else
  const int warp = thread / 32 / (THREADS_M / 8), within = thread % 4;
  return warp * COLUMNS * 4 + j / 2 * 8 + within * 2 + j % 2;
#endif
}
