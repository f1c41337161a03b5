// Runs flash_sm80.cuh on a CPU and compares it with a plain softmax attention:
//
//     c++ -O2 -std=c++17 -Wno-unknown-pragmas flash_sm80_test.cpp -o /tmp/flash && /tmp/flash
//
// Each thread of a block is a fiber, and an instruction of a warp waits until all its lanes have reached it. To make
// errors visible that a GPU shows only sometimes: shared memory and pending copies are NaN, a copy arrives only when its
// thread waits for it, warps run in random order, reads outside the input end the test.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#define LATENTD_EMULATED
#define __device__
#define __forceinline__ inline

struct uint4 {
  uint32_t x, y, z, w;
};
struct Index {
  unsigned x, y, z;
};

namespace {

constexpr int LANES = 32;
constexpr int BLOCK = 128;

struct Copy {
  void* to;
  uint4 value;
};

struct Thread {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(256 << 10);
  bool done;
  std::vector<std::vector<Copy>> copies;
  // Values that the lanes of a warp exchange.
  uint32_t registers[6];
  const void* address;
};

struct Barrier {
  int arrived = 0;
  long passed = 0;
};

ucontext_t scheduler;
Thread threads[BLOCK];
int current;
Barrier warp_barriers[BLOCK / LANES], block_barrier;
std::vector<uint4> input;
Index threadIdx, blockIdx;

void wait(Barrier& barrier, int count) {
  long before = barrier.passed;
  if (++barrier.arrived == count) {
    barrier.arrived = 0;
    barrier.passed++;
  }
  while (barrier.passed == before) swapcontext(&threads[current].context, &scheduler);
}

void warp_wait() { wait(warp_barriers[current / LANES], LANES); }

int lane() { return current % LANES; }

Thread& other(int lane) { return threads[current / LANES * LANES + lane]; }

void __syncthreads() { wait(block_barrier, BLOCK); }

float __shfl_xor_sync(unsigned, float value, int mask) {
  std::memcpy(threads[current].registers, &value, 4);
  warp_wait();
  std::memcpy(&value, other(lane() ^ mask).registers, 4);
  warp_wait();
  return value;
}

float widen(uint32_t bf16) {
  bf16 <<= 16;
  float value;
  std::memcpy(&value, &bf16, 4);
  return value;
}

uint16_t narrow(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

[[noreturn]] void fail(const char* what) {
  std::printf("FAILED: %s\n", what);
  std::exit(1);
}

}  // namespace

namespace latentd {

void copy_async(void* to, const void* from, bool valid) {
  uint4 value{};
  if (valid && (from < input.data() || from >= input.data() + input.size())) fail("read outside the input");
  if (valid) std::memcpy(&value, from, sizeof value);
  std::memset(to, 0xff, sizeof value);
  threads[current].copies.back().push_back({to, value});
}

void commit_copies() { threads[current].copies.emplace_back(); }

template <int pending>
void wait_copies() {
  auto& copies = threads[current].copies;
  for (; copies.size() > pending + 1; copies.erase(copies.begin())) {
    for (const Copy& copy : copies.front()) std::memcpy(copy.to, &copy.value, sizeof copy.value);
  }
}

void load(uint32_t (&to)[4], const void* row, bool transposed) {
  threads[current].address = row;
  warp_wait();
  for (int matrix = 0; matrix < 4; matrix++) {
    uint16_t pair[2];
    for (int i = 0; i < 2; i++) {
      int r = lane() / 4, c = lane() % 4 * 2 + i;
      if (transposed) std::swap(r, c);
      std::memcpy(&pair[i], static_cast<const char*>(other(matrix * 8 + r).address) + 2 * c, 2);
    }
    std::memcpy(&to[matrix], pair, 4);
  }
  warp_wait();
}

void load_matrices(uint32_t (&to)[4], const void* row) { load(to, row, false); }

void load_matrices_transposed(uint32_t (&to)[4], const void* row) { load(to, row, true); }

void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  uint32_t all[6] = {a[0], a[1], a[2], a[3], b0, b1};
  std::memcpy(threads[current].registers, all, sizeof all);
  warp_wait();
  for (int i = 0; i < 4; i++) {
    int row = lane() / 4 + i / 2 * 8, column = lane() % 4 * 2 + i % 2;
    for (int k = 0; k < 16; k++) {
      uint32_t left = other(row % 8 * 4 + k % 8 / 2).registers[row / 8 + k / 8 * 2];
      uint32_t right = other(column * 4 + k % 8 / 2).registers[4 + k / 8];
      c[i] += widen(left >> k % 2 * 16 & 0xffff) * widen(right >> k % 2 * 16 & 0xffff);
    }
  }
  warp_wait();
}

uint32_t pack(float low, float high) { return narrow(low) | uint32_t(narrow(high)) << 16; }

}  // namespace latentd

#include "flash_sm80.cuh"

namespace {

latentd::flash::Params params;
latentd::flash::Shared shared;

void thread_main() {
  latentd::flash::attend(params, shared);
  threads[current].done = true;
  swapcontext(&threads[current].context, &scheduler);
}

void run_block(Index block) {
  static std::mt19937 random(7);
  std::memset(&shared, 0xff, sizeof shared);
  blockIdx = block;
  for (Thread& thread : threads) {
    thread.done = false;
    thread.copies.assign(1, {});
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = thread.stack.size();
    makecontext(&thread.context, thread_main, 0);
  }
  unsigned slow = 0, rounds = 0;
  for (bool running = true; running;) {
    running = false;
    if (rounds-- == 0) {
      slow = random() % 16;
      rounds = random() % 200;
    }
    for (current = 0; current < BLOCK; current++) {
      if (threads[current].done) continue;
      running = true;
      if (slow >> current / LANES & 1 && random() % 64 != 0) continue;
      threadIdx.x = unsigned(current);
      swapcontext(&scheduler, &threads[current].context);
    }
  }
}

// The relative error of attention over normal values; large ones make the softmax pick few keys.
double check(int batch, int length, int heads, float size) {
  constexpr int HEAD_DIM = latentd::flash::HEAD_DIM, QUERIES = latentd::flash::QUERIES;
  constexpr uint16_t UNTOUCHED = 0x7fc1;
  std::mt19937 random(length);
  std::normal_distribution<float> normal(0, size);
  std::vector<uint16_t> qkv(size_t(batch) * length * 3 * heads * HEAD_DIM);
  for (uint16_t& value : qkv) value = narrow(normal(random));
  input.resize(qkv.size() / 8);
  std::memcpy(input.data(), qkv.data(), qkv.size() * 2);
  std::vector<uint32_t> out(size_t(batch) * length * heads * HEAD_DIM / 2 + 4, UNTOUCHED * 0x10001u);
  float scale = 1 / std::sqrt(float(HEAD_DIM));
  params = {input.data(), out.data(), length, heads, scale * 1.44269504088896341f};
  for (int block = 0; block < batch * heads * ((length + QUERIES - 1) / QUERIES); block++) {
    run_block({unsigned(block / (batch * heads)), unsigned(block % heads), unsigned(block / heads % batch)});
  }
  if (std::count(out.end() - 4, out.end(), UNTOUCHED * 0x10001u) != 4) fail("written past the output");

  double error = 0, total = 0;
  std::vector<double> share(length);
  for (int b = 0; b < batch; b++) {
    for (int row = 0; row < length * heads; row++) {
      int head = row % heads, query = row / heads;
      auto at = [&](int part, int token, int d) {
        return widen(qkv[((size_t(b) * length + token) * 3 + part) * heads * HEAD_DIM + head * HEAD_DIM + d]);
      };
      double max = -INFINITY, sum = 0;
      for (int key = 0; key < length; key++) {
        share[key] = 0;
        for (int d = 0; d < HEAD_DIM; d++) share[key] += double(at(0, query, d)) * at(1, key, d) * scale;
        max = std::max(max, share[key]);
      }
      for (double& s : share) sum += s = std::exp(s - max);
      for (int d = 0; d < HEAD_DIM; d++) {
        double expected = 0;
        for (int key = 0; key < length; key++) expected += share[key] / sum * at(2, key, d);
        uint32_t pair = out[((size_t(b) * length + query) * heads + head) * (HEAD_DIM / 2) + d / 2];
        double difference = widen(pair >> d % 2 * 16 & 0xffff) - expected;
        error += difference * difference;
        total += expected * expected;
      }
    }
  }
  return std::sqrt(error / total);
}

}  // namespace

int main() {
  struct {
    int batch, length, heads;
    float size;
  } cases[] = {{2, 1, 1, 1},   {1, 37, 2, 1},  {2, 64, 1, 1},  {1, 65, 1, 5},
               {2, 127, 2, 1}, {1, 128, 1, 1}, {1, 129, 3, 2}, {2, 301, 2, 2}};
  for (auto [batch, length, heads, size] : cases) {
    double error = check(batch, length, heads, size);
    std::printf("batch %d, %3d tokens, %d heads, values of %g: relative error %.1e\n", batch, length, heads, size, error);
    // bf16 keeps 8 bits: 2e-3 on average for the probabilities and as much for the result. NaN fails too.
    if (!(error < 4e-3)) fail("too far from the reference");
  }
  std::puts("passed");
}
