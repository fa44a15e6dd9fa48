// Products on tensor cores, of tf32 or float16, by whole warps (PTX ISA, `mma`): a warp's part of a
// tile is made of products of 16 x 8, of which a thread has two rows and two columns each.

typedef unsigned Word;

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

// A warp reads 8 rows of weights and 4 words of each, and 4 rows of inputs and 8 of each: with these
// pitches, from 32 banks.
constexpr unsigned PITCH_K = WORDS + 4, PITCH_N = BLOCK_N + (40 - BLOCK_N % 32) % 32;

struct Stage {
  alignas(16) Word weights[BLOCK_M][PITCH_K];
  alignas(16) Word inputs[WORDS][PITCH_N];
};

// What is copied as it is, is rounded here.
__device__ inline unsigned operand(Word word) {
#if BUFFERS > 2
  return tf32(__uint_as_float(word));
#else
  return word;
#endif
}

template <int n>
__device__ inline void store_weights(Stage& stage, unsigned k, unsigned m,
                                     const Run<n, Word>& words) {
  *reinterpret_cast<Run<n, Word>*>(&stage.weights[m][k]) = words;
}

// Where the i-th row and the j-th column of a thread lie in its block.
__device__ inline unsigned row_of(unsigned thread, unsigned i) {
  const unsigned warp = thread / 32 % (THREADS_M / 8), group = thread % 32 / 4;
  return warp * ROWS * 8 + i * 8 + group;
}

__device__ inline unsigned column_of(unsigned thread, unsigned j) {
  const unsigned warp = thread / 32 / (THREADS_M / 8), within = thread % 4;
  return warp * COLUMNS * 4 + j / 2 * 8 + within * 2 + j % 2;
}

__device__ inline void multiply(float (&sums)[1][ROWS][COLUMNS], const Stage& stage,
                                unsigned thread) {
  const unsigned within = thread % 4, group = thread % 32 / 4;
#pragma unroll (8 * UNROLL < WORDS ? UNROLL : WORDS / 8)
  for (int k = 0; k < WORDS; k += 8) {
    unsigned a[ROWS / 2][4], b[COLUMNS / 2][2];
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        a[i / 2][i % 2 + 2 * half] = operand(stage.weights[row_of(thread, i)][k + 4 * half + within]);
#pragma unroll
    for (int j = 0; j < COLUMNS; j += 2) {
      const unsigned column = column_of(thread, j) - 2 * within + group;
      b[j / 2][0] = operand(stage.inputs[k + within][column]);
      b[j / 2][1] = operand(stage.inputs[k + 4 + within][column]);
    }
#pragma unroll
    for (int i = 0; i < ROWS; i += 2)
#pragma unroll
      for (int j = 0; j < COLUMNS; j += 2) {
        float four[4] = {sums[0][i][j], sums[0][i][j + 1], sums[0][i + 1][j],
                         sums[0][i + 1][j + 1]};
        multiply(four, a[i / 2], b[j / 2]);
        sums[0][i][j] = four[0], sums[0][i][j + 1] = four[1];
        sums[0][i + 1][j] = four[2], sums[0][i + 1][j + 1] = four[3];
      }
  }
}
