// Runs blocks of a CUDA kernel on a CPU: every thread is a fiber, and all of a block take turns at
// its barriers, in an order that changes from barrier to barrier. KERNEL is the file to run.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

struct Index {
  unsigned x, y, z;
};
static Index threadIdx, blockIdx;
static ucontext_t scheduler;
static ucontext_t* running;
static bool at_barrier[1024];
alignas(16) static unsigned char shared_memory[227 << 10];  // what a launch asks for

static void __attribute__((noinline)) pause_thread() { swapcontext(running, &scheduler); }
static unsigned thread_number();

static void __syncthreads() {
  at_barrier[thread_number()] = true;
  pause_thread();
}

static void __threadfence() {}
static float __ldcg(const float* at) { return *at; }
static unsigned atomicAdd(unsigned* at, unsigned more) { return (*at += more) - more; }

static float number_of(uint32_t bits) {
  float number;
  std::memcpy(&number, &bits, 4);
  return number;
}

static uint32_t bits_of(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, 4);
  return bits;
}

// What tensor cores take, and their product of 16 x 8 by a warp (PTX ISA, `cvt`, `mma`).
static uint32_t tf32(float number) { return (bits_of(number) + 0x1000) & ~0x1fffu; }

static uint32_t half(float number) {  // to the nearest, even if there are two; too large: infinity
  const float steps = std::ldexp(1.0f, std::max(std::ilogb(number), -14) - 10);
  const float near = number == 0 ? 0 : std::nearbyint(number / steps) * steps;
  const uint32_t sign = std::signbit(number) ? 0x8000 : 0;
  if (!(std::fabs(near) < 65520)) return sign | 0x7c00;
  if (std::fabs(near) < std::ldexp(1.0f, -14)) return sign | (uint32_t)(std::fabs(near) * (1 << 24));
  return sign | ((bits_of(std::fabs(near)) - (112u << 23)) >> 13);
}

static float number_of_half(uint32_t bits) {
  const float size = bits & 0x7c00 ? number_of(((bits & 0x7fff) << 13) + (112u << 23))
                                   : std::ldexp((float)(bits & 0x3ff), -24);
  return bits & 0x8000 ? -size : size;
}

static float __uint_as_float(uint32_t bits) { return number_of(bits); }

// Copies to shared memory: each is done at once, or not before its group is waited for.
struct Copy {
  unsigned char* to;
  const float* from;
  int bytes;
  bool real;
  unsigned group;

  void done() const { real ? std::memcpy(to, from, bytes) : std::memset(to, 0, bytes); }
};
static std::vector<Copy> under_way[1024];
static unsigned groups[1024];
static std::minstd_rand at_once;

template <int n>
static void copy_async(void* to, const float* from, bool real) {
  const unsigned me = thread_number();
  const Copy copy{(unsigned char*)to, from, 4 * n, real, groups[me]};
  if ((uintptr_t)to % (4 * n) || (real && (uintptr_t)from % (4 * n))) std::abort();  // as a GPU does
  if (at_once() % 2) copy.done();
  under_way[me].push_back(copy);
}

static void end_group() { ++groups[thread_number()]; }

template <int last>
static void wait_for_groups() {
  const unsigned me = thread_number();
  auto& mine = under_way[me];
  const auto arrived = [&](const Copy& copy) { return copy.group + last < groups[me]; };
  for (const Copy& copy : mine)
    if (arrived(copy)) copy.done();
  mine.erase(std::remove_if(mine.begin(), mine.end(), arrived), mine.end());
}

static uint32_t halves(float low, float high) { return half(low) | half(high) << 16; }
static void multiply(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

using std::max;
using std::min;
#define INTERPRETED
#define __device__ static
#define __constant__ static const
#define __global__
#define __launch_bounds__(n)
#define __shared__ static
#include KERNEL

#ifndef MATH
#define MATH 0
#endif

static void multiply(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  static struct {
    uint32_t a[4], b[2];
  } lanes[2][1024];  // of this product and of the next
  static unsigned turns[1024];
  const unsigned me = threadIdx.x, warp = me & ~31u, group = me % 32 / 4, within = me % 4;
  const unsigned turn = ++turns[me];
  auto& now = lanes[turn % 2];
  std::copy_n(a, 4, now[me].a), std::copy_n(b, 2, now[me].b);
  while (*std::min_element(turns + warp, turns + warp + 32) < turn) pause_thread();
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned column = 2 * within + i % 2;
    for (unsigned k = 0; k < 8; ++k) {
      const uint32_t left = now[warp + group * 4 + k % 4].a[i / 2 + k / 4 * 2];
      const uint32_t right = now[warp + column * 4 + k % 4].b[k / 4];
      sums[i] += MATH == 1 ? number_of(left) * number_of(right)
                           : number_of_half(left & 0xffff) * number_of_half(right & 0xffff) +
                                 number_of_half(left >> 16) * number_of_half(right >> 16);
    }
  }
}

static ucontext_t* first_fiber;
static unsigned thread_number() { return running - first_fiber; }

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
  first_fiber = fibers.data();
  int barriers = 0;
  for (int at = 0; at < n; ++at) {
    blockIdx = blocks[at];
    std::fill(std::begin(shared_memory), std::end(shared_memory), 0xff);  // NaN, as what is not set
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
    const auto ended = [](const ucontext_t& fiber) { return fiber.uc_link != nullptr; };
    for (barriers = 0;; ++barriers) {
      std::fill(at_barrier, at_barrier + threads, false);
      std::shuffle(order.begin(), order.end(), random);
      for (bool all = false; !all;) {  // a warp may wait for its own threads on the way
        all = true;
        for (unsigned t : order) {
          if (ended(fibers[t]) || at_barrier[t]) continue;
          threadIdx = {t % block[0], t / block[0] % block[1], t / block[0] / block[1]};
          running = &fibers[t];
          swapcontext(&scheduler, running);
          all &= ended(fibers[t]) || at_barrier[t];
        }
      }
      const auto count = std::count_if(fibers.begin(), fibers.end(), ended);
      if (count == threads) break;
      if (count) return -1;
    }
  }
  return barriers;
}
