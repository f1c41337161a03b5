// A kernel's view of its threads: indices, barriers, warp collectives and dynamic shared memory.
#pragma once
#include "../runtime/block.h"

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

inline void __syncthreads() { cuda_emulator::block_barrier(0); }
inline int __syncthreads_count(int predicate) { return cuda_emulator::block_barrier(predicate != 0); }
inline int __syncthreads_or(int predicate) { return cuda_emulator::block_barrier(predicate != 0) != 0; }
inline int __syncthreads_and(int predicate) { return cuda_emulator::block_barrier(predicate == 0) == 0; }

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}

namespace cuda_emulator {

template <typename T>
T shuffle(unsigned mask, T value, unsigned source_lane) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_collective(WarpOperation::shuffle, mask, bits, source_lane);
  T result;
  std::memcpy(static_cast<void*>(&result), &bits, sizeof(T));
  return result;
}

inline unsigned group_of(unsigned lane, int width) { return lane & ~static_cast<unsigned>(width - 1); }

inline unsigned combine(WarpOperation operation, unsigned mask, std::int64_t value) {
  return static_cast<unsigned>(warp_collective(operation, mask, static_cast<std::uint64_t>(value), 0));
}

}  // namespace cuda_emulator

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  cuda_emulator::warp_collective(cuda_emulator::WarpOperation::sync, mask, 0, 0);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const unsigned group = cuda_emulator::group_of(cuda_emulator::lane_index(), width);
  return cuda_emulator::shuffle(mask, value, group + (static_cast<unsigned>(source) & (width - 1)));
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = cuda_emulator::lane_index();
  const bool inside = lane >= cuda_emulator::group_of(lane, width) + delta;
  return cuda_emulator::shuffle(mask, value, inside ? lane - delta : lane);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = cuda_emulator::lane_index();
  const bool inside = lane + delta < cuda_emulator::group_of(lane, width) + width;
  return cuda_emulator::shuffle(mask, value, inside ? lane + delta : lane);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  const unsigned lane = cuda_emulator::lane_index(), other = lane ^ static_cast<unsigned>(lanes);
  const bool inside = other < cuda_emulator::group_of(lane, width) + width;
  return cuda_emulator::shuffle(mask, value, inside ? other : lane);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return cuda_emulator::combine(cuda_emulator::WarpOperation::ballot, mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate == 0) == 0; }
inline unsigned __activemask() { return cuda_emulator::active_lanes(); }

#define CUDA_EMULATOR_REDUCTION(name, operation)                                         \
  inline unsigned name(unsigned mask, unsigned value) {                                  \
    return cuda_emulator::combine(cuda_emulator::WarpOperation::operation, mask, value); \
  }                                                                                      \
  inline int name(unsigned mask, int value) {                                            \
    return static_cast<int>(cuda_emulator::combine(cuda_emulator::WarpOperation::operation, mask, value)); \
  }
CUDA_EMULATOR_REDUCTION(__reduce_add_sync, add)
CUDA_EMULATOR_REDUCTION(__reduce_min_sync, minimum)
CUDA_EMULATOR_REDUCTION(__reduce_max_sync, maximum)
CUDA_EMULATOR_REDUCTION(__reduce_and_sync, bit_and)
CUDA_EMULATOR_REDUCTION(__reduce_or_sync, bit_or)
CUDA_EMULATOR_REDUCTION(__reduce_xor_sync, bit_xor)
#undef CUDA_EMULATOR_REDUCTION
