// The block scheduler. A thread runs until it waits or returns. Threads that never wait share one fiber; a thread
// that waits keeps its fiber until it can continue. When no thread can continue, the kernel has diverged.
#include "block.h"

#include <cstdlib>
#include <cstring>
#include <vector>

#include "fiber.h"
#include "not_emulated.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_emulator {
namespace {

enum class State { fresh, running, ready, at_barrier, in_warp, returned };

struct Thread {
  State state;
  uint3 index;
  Fiber* fiber;
  // In a warp collective: this lane's input and output.
  WarpOperation operation;
  unsigned mask, source_lane;
  std::uint64_t value, result;
};

constexpr unsigned warp_size = 32;
constexpr std::size_t shared_limit = 228 * 1024, shared_guard = 256;
constexpr unsigned char unwritten = 0xff;

const Launch* launch;
std::vector<Thread> threads;
unsigned thread_count, next_fresh, current, alive, at_barrier;
int barrier_sum, barrier_result;
Fiber scheduler;
Fiber* running_fiber;
std::vector<Fiber*> idle_fibers;
alignas(128) unsigned char shared_memory[shared_limit + shared_guard];

// Blocks run their threads in falling order on request, since a missing barrier may only show in one order.
bool falling_order() {
  static const bool falling = [] {
    const char* order = std::getenv("CUDA_EMULATOR_ORDER");
    return order != nullptr && std::strcmp(order, "falling") == 0;
  }();
  return falling;
}

unsigned in_order(unsigned position) { return falling_order() ? thread_count - 1 - position : position; }

// The thread that runs after this one, or none.
unsigned after(unsigned thread) { return falling_order() ? thread - 1 : thread + 1; }

void become(unsigned thread) {
  current = thread;
  threads[thread].state = State::running;
  threadIdx = threads[thread].index;
}

// A collective is executed once every lane of its mask that has not returned has reached it.
bool try_complete_collective(unsigned thread) {
  const unsigned first = thread / warp_size * warp_size, next = after(thread);
  const Thread& sample = threads[thread];
  // Most often the lane that runs next has not reached it yet.
  if (next < thread_count && next / warp_size == thread / warp_size && (threads[next].state == State::fresh || threads[next].state == State::ready) &&
      (sample.mask >> next % warp_size & 1) != 0) {
    return false;
  }
  unsigned taking_part = 0;
  for (unsigned lane = 0; lane < warp_size && first + lane < thread_count; ++lane) {
    const Thread& other = threads[first + lane];
    if ((sample.mask >> lane & 1) == 0 || other.state == State::returned) continue;
    if (other.state != State::in_warp || other.mask != sample.mask || other.operation != sample.operation) return false;
    taking_part |= 1u << lane;
  }
  std::uint64_t combined = 0;
  bool any = false;
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    if ((taking_part >> lane & 1) == 0) continue;
    const std::uint64_t value = threads[first + lane].value;
    const auto number = static_cast<std::int64_t>(value), so_far = static_cast<std::int64_t>(combined);
    switch (sample.operation) {
      case WarpOperation::sync:
      case WarpOperation::shuffle: break;
      case WarpOperation::ballot: combined |= (value != 0 ? 1ull : 0ull) << lane; break;
      case WarpOperation::add: combined += value; break;
      case WarpOperation::minimum: combined = !any || number < so_far ? value : combined; break;
      case WarpOperation::maximum: combined = !any || number > so_far ? value : combined; break;
      case WarpOperation::bit_and: combined = any ? combined & value : value; break;
      case WarpOperation::bit_or: combined |= value; break;
      case WarpOperation::bit_xor: combined ^= value; break;
    }
    any = true;
  }
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    if ((taking_part >> lane & 1) == 0) continue;
    Thread& other = threads[first + lane];
    if (other.operation == WarpOperation::shuffle) {
      // The value of a lane that does not participate is undefined: a NaN pattern.
      const bool defined = taking_part >> other.source_lane & 1;
      other.result = defined ? threads[first + other.source_lane].value : ~0ull;
    } else {
      other.result = combined;
    }
  }
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    if (taking_part >> lane & 1) threads[first + lane].state = State::ready;
  }
  return true;
}

void try_open_barrier() {
  if (alive == 0 || at_barrier != alive) return;
  barrier_result = barrier_sum;
  barrier_sum = 0;
  at_barrier = 0;
  for (unsigned thread = 0; thread < thread_count; ++thread) {
    if (threads[thread].state == State::at_barrier) threads[thread].state = State::ready;
  }
}

// A returned thread no longer counts for barriers and collectives, so others may continue.
void retire(unsigned thread) {
  threads[thread].state = State::returned;
  --alive;
  try_open_barrier();
  const unsigned first = thread / warp_size * warp_size;
  for (unsigned other = first; other < first + warp_size && other < thread_count; ++other) {
    if (threads[other].state == State::in_warp) try_complete_collective(other);
  }
}

void fiber_main() {
  for (;;) {
    while (next_fresh < thread_count) {
      const unsigned thread = in_order(next_fresh++);
      threads[thread].fiber = running_fiber;
      become(thread);
      launch->call(launch->arguments);
      retire(current);
    }
    Fiber* self = running_fiber;
    idle_fibers.push_back(self);
    switch_fiber(self, &scheduler);
  }
}

Fiber* idle_fiber() {
  if (idle_fibers.empty()) return create_fiber(fiber_main);
  Fiber* fiber = idle_fibers.back();
  idle_fibers.pop_back();
  return fiber;
}

void resume(Fiber* from, Fiber* to) {
  running_fiber = to;
  switch_fiber(from, to);
}

// Suspends the current thread, whose wait is recorded, until it is ready. Switches directly to its successor if possible,
// since the scheduler would cost another switch.
void wait_until_ready() {
  const unsigned self = current;
  if (threads[self].state != State::ready) {
    const unsigned next = after(self);
    Fiber* own = running_fiber;
    if (next_fresh < thread_count) {
      resume(own, idle_fiber());
    } else if (next < thread_count && threads[next].state == State::ready) {
      resume(own, threads[next].fiber);
    } else {
      switch_fiber(own, &scheduler);
    }
  }
  become(self);
}

[[noreturn]] void report_divergence() {
  unsigned in_warp = 0;
  for (const Thread& thread : threads) in_warp += thread.state == State::in_warp;
  fail("kernel %s diverges: in block (%u, %u, %u) %u of %u threads wait at a barrier and %u in a warp collective "
       "that the others never reach (%u have returned)",
       launch->kernel, blockIdx.x, blockIdx.y, blockIdx.z, at_barrier, thread_count, in_warp, thread_count - alive);
}

void run_block() {
  next_fresh = at_barrier = 0;
  barrier_sum = 0;
  alive = thread_count;
  for (Thread& thread : threads) thread.state = State::fresh;
  std::memset(shared_memory, unwritten, launch->dynamic_shared_bytes + shared_guard);
  while (next_fresh < thread_count) resume(&scheduler, idle_fiber());
  while (alive > 0) {
    bool moved = false;
    for (unsigned position = 0; position < thread_count; ++position) {
      const unsigned thread = in_order(position);
      if (threads[thread].state != State::ready) continue;
      moved = true;
      resume(&scheduler, threads[thread].fiber);
    }
    if (!moved) report_divergence();
  }
  for (std::size_t byte = 0; byte < shared_guard; ++byte) {
    if (shared_memory[launch->dynamic_shared_bytes + byte] != unwritten) {
      fail("kernel %s writes beyond its %zu bytes of dynamic shared memory", launch->kernel,
           launch->dynamic_shared_bytes);
    }
  }
}

}  // namespace

void run_grid(const Launch& wanted) {
  launch = &wanted;
  gridDim = wanted.grid;
  blockDim = wanted.block;
  thread_count = wanted.block.x * wanted.block.y * wanted.block.z;
  threads.resize(thread_count);
  for (unsigned thread = 0; thread < thread_count; ++thread) {
    threads[thread].index = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / (blockDim.x * blockDim.y)};
  }
  for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) run_block();
  launch = nullptr;
}

const char* running_kernel() { return launch == nullptr ? nullptr : launch->kernel; }

void* dynamic_shared() { return shared_memory; }

int block_barrier(int predicate_count) {
  threads[current].state = State::at_barrier;
  barrier_sum += predicate_count;
  ++at_barrier;
  try_open_barrier();
  wait_until_ready();
  return barrier_result;
}

std::uint64_t warp_collective(WarpOperation operation, unsigned mask, std::uint64_t value, unsigned source_lane) {
  Thread& self = threads[current];
  if ((mask >> lane_index() & 1) == 0) {
    fail("kernel %s: a thread takes part in a warp collective whose mask %#x leaves it out", launch->kernel, mask);
  }
  self = {State::in_warp, self.index, self.fiber, operation, mask, source_lane, value, 0};
  try_complete_collective(current);
  const unsigned index = current;
  wait_until_ready();
  return threads[index].result;
}

unsigned active_lanes() { not_emulated("__activemask"); }

unsigned lane_index() { return current % warp_size; }

}  // namespace cuda_emulator
