// A convolution as a product of matrices, one of which is never built (implicit GEMM):
//
//   conv[m, n] = sum over k of weight[m, k] * input[k, n]
//
// m counts filters, n pixels of the output (image, row, column), k (channel, filter row, filter
// column). NCHW, float32. With Winograd's transforms there are 16 such products, of tiles of 2 x 2
// pixels, and k counts channels. measure/cuda_gemm_source.py defines the shape and the knobs, in
// capitals, before this. After it come lanes.cu or tensor.cu, product.cu or winograd.cu, registers.cu or
// async.cu, and kernel.cu.
// templates/cuda_gemm.py says what the knobs are.

constexpr unsigned PIXELS = OUT_HEIGHT * OUT_WIDTH;
#if WINOGRAD
constexpr unsigned POINTS = 16, K = CHANNELS;
constexpr unsigned TILE_COLUMNS = (OUT_WIDTH + 1) / 2, IMAGE_N = (OUT_HEIGHT + 1) / 2 * TILE_COLUMNS;
#else
constexpr unsigned POINTS = 1, K = CHANNELS * FILTER_HEIGHT * FILTER_WIDTH;
constexpr unsigned IMAGE_N = PIXELS;
#endif
constexpr unsigned M = FILTERS, N = BATCH * IMAGE_N;
constexpr unsigned THREADS = THREADS_M * THREADS_N;
constexpr unsigned BLOCK_M = THREADS_M * ROWS, BLOCK_N = THREADS_N * COLUMNS;
constexpr unsigned TILES_M = (M + BLOCK_M - 1) / BLOCK_M, TILES_N = (N + BLOCK_N - 1) / BLOCK_N;
constexpr unsigned STAGES = (K + STAGE - 1) / STAGE, STAGES_EACH = (STAGES + SPLIT - 1) / SPLIT;
constexpr unsigned PACKED = MATH == 2 ? 2 : 1;  // numbers, one k after the other, in a word
constexpr unsigned WORDS = STAGE / PACKED;      // of a stage, for each m and n

// What a thread fetches of a stage: so many times LOAD_M weights along k, LOAD_N inputs along n.
constexpr unsigned FETCHES_M = BLOCK_M * STAGE / LOAD_M / THREADS;
constexpr unsigned FETCHES_N = BLOCK_N * WORDS / LOAD_N / THREADS;
constexpr unsigned RUNS_N = BLOCK_N / LOAD_N;                              // of inputs, for each k
constexpr unsigned POSITIONS = RUNS_N > THREADS ? RUNS_N / THREADS : 1;    // of them, of a thread
constexpr unsigned WORDS_APART = THREADS > RUNS_N ? THREADS / RUNS_N : 1;  // from one to its next

template <int n, typename T = float>
struct alignas(4 * n) Run {
  T at[n];
};

// Whether they are there; where all tiles are whole, nobody asks.
__device__ inline bool is_filter(unsigned m) { return M % BLOCK_M == 0 || m < M; }
__device__ inline bool is_input(unsigned n) { return N % BLOCK_N == 0 || n < N; }
__device__ inline bool is_summed(unsigned k) { return K % STAGE == 0 || k < K; }

// Where the inputs of one n begin, padding included, and which of the rows and columns from there
// on are real: bits from 0 and from 16 on.
struct Position {
  int offset;
  unsigned real;
};

__device__ constexpr unsigned taps(int y, int x) { return 1u << y | 1u << (16 + x); }

template <int rows, int columns>
__device__ inline Position position_at(unsigned n, int row, int column) {
  unsigned real = 0;
  if (is_input(n)) {
#pragma unroll
    for (int y = 0; y < rows; ++y) real |= ((unsigned)(row + y) < HEIGHT) << y;
#pragma unroll
    for (int x = 0; x < columns; ++x) real |= ((unsigned)(column + x) < WIDTH) << (16 + x);
  }
  return {((int)(n / IMAGE_N) * CHANNELS * HEIGHT + row) * WIDTH + column, real};
}
