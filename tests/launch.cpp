// Runs blocks of a CUDA kernel on a CPU: every thread is a fiber, and all of a block take turns at
// its barriers, in an order that changes from barrier to barrier. KERNEL is the file to run.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

struct Index {
  unsigned x, y, z;
};
static Index threadIdx, blockIdx;
static ucontext_t scheduler;
static ucontext_t* running;

static void __attribute__((noinline)) __syncthreads() { swapcontext(running, &scheduler); }

using std::max;
using std::min;
#define __global__
#define __launch_bounds__(n)
#define __shared__ static
#include KERNEL

static float* arguments[3];
static void thread() { main_kernel(arguments[0], arguments[1], arguments[2]); }

// Returns how many barriers the last block passed, or -1 if its threads did not pass the same.
extern "C" int launch(float* a, float* b, float* c, const unsigned* block, const Index* blocks,
                      int n, unsigned seed) {
  const unsigned threads = block[0] * block[1] * block[2];
  constexpr size_t stack = 256 << 10;
  std::vector<ucontext_t> fibers(threads);
  std::unique_ptr<char[]> stacks(new char[threads * stack]);  // not touched before it is used
  std::vector<unsigned> order(threads);
  std::mt19937 random(seed);
  arguments[0] = a, arguments[1] = b, arguments[2] = c;
  int barriers = 0;
  for (int at = 0; at < n; ++at) {
    blockIdx = blocks[at];
    for (unsigned t = 0; t < threads; ++t) {
      getcontext(&fibers[t]);
      fibers[t].uc_stack = {&stacks[t * stack], 0, stack};
      fibers[t].uc_link = nullptr;
      order[t] = t;
      makecontext(&fibers[t], [] {
        thread();
        running->uc_link = &scheduler;  // marks it as done
        setcontext(&scheduler);
      }, 0);
    }
    for (barriers = 0;; ++barriers) {
      std::shuffle(order.begin(), order.end(), random);
      for (unsigned t : order) {
        threadIdx = {t % block[0], t / block[0] % block[1], t / block[0] / block[1]};
        running = &fibers[t];
        swapcontext(&scheduler, running);
      }
      const auto ended = std::count_if(fibers.begin(), fibers.end(),
                                       [](const ucontext_t& f) { return f.uc_link != nullptr; });
      if (ended == threads) break;
      if (ended) return -1;
    }
  }
  return barriers;
}
