// Running a thread block: its threads as fibers, with barriers and warp collectives between them.
#pragma once
#include <cstddef>
#include <cstdint>

#include <vector_types.h>

namespace cuda_emulator {

// A kernel launch: the kernel's name, its function for one thread, and its arguments.
struct Launch {
  const char* kernel;
  void (*call)(void** arguments);
  void** arguments;
  dim3 grid, block;
  std::size_t dynamic_shared_bytes;
};

// Runs all blocks, one after another. Not reentrant: the caller holds the emulator's lock.
void run_grid(const Launch& launch);

// The name of the kernel that is running, or null.
const char* running_kernel();

// Functions that device code calls (see device/threads.h).
enum class WarpOperation { sync, shuffle, ballot, add, minimum, maximum, bit_and, bit_or, bit_xor };

void* dynamic_shared();
int block_barrier(int predicate_count);  // returns the sum over the block's threads
std::uint64_t warp_collective(WarpOperation operation, unsigned mask, std::uint64_t value, unsigned source_lane);
unsigned active_lanes();
unsigned lane_index();

}  // namespace cuda_emulator
