// Helpers of this folder's kernels: return codes and the launch.
#pragma once

#include "../arguments.cuh"

#include <cuda_runtime.h>

#include <cstdint>

namespace latentd {

// Return codes of every function of this folder, listed in README.md.
enum Code : int {
  OK = 0,
  // A pointer is null or not aligned to 16 bytes.
  BAD_POINTER = 1,
  // A size is negative, not supported, or makes an offset too large for 32 bits.
  BAD_SIZE = 2,
  // The workspace is null, not aligned to 16 bytes, or smaller than the `_workspace` function returns.
  BAD_WORKSPACE = 3,
  // The scale is not a positive finite number.
  BAD_SCALE = 4,
  // The driver rejected a tensor map.
  BAD_TENSOR_MAP = 5,
  // Added to the cudaError_t of a failed call of the CUDA runtime.
  CUDA_ERROR = 1000,
};

// For a softmax with base 2.
constexpr float LOG2_E = 1.44269504088896341f;

inline bool aligned(const void* pointer) {
  return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % WORD_BYTES == 0;
}

// Whether the product of nonnegative sizes stays below 2^31.
template <typename... Sizes>
bool fits(Sizes... sizes) {
  int64_t product = 1;
  for (int64_t size : {int64_t(sizes)...}) {
    if (size < 0) return false;
    product *= size;
    if (product > INT32_MAX) return false;
  }
  return true;
}

// Launches `kernel`, which takes one struct. Allocates and waits for nothing, so a graph can capture it.
//
// Shared memory of 48 KiB and more must be enabled in each context. A model that replaces another one may find a new context,
// so this is not remembered: the call only sets a number.
template <auto kernel, typename Params>
int launch(const Params& params, dim3 grid, dim3 block, size_t shared_bytes, void* stream) {
  const void* function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes >= (48 << 10)) {
    cudaError_t error =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes));
    if (error != cudaSuccess) {
      cudaGetLastError();
      return CUDA_ERROR + error;
    }
  }
  void* arguments[] = {const_cast<Params*>(&params)};
  cudaError_t error =
      cudaLaunchKernel(function, grid, block, arguments, shared_bytes, static_cast<cudaStream_t>(stream));
  if (error != cudaSuccess) {
    cudaGetLastError();
    return CUDA_ERROR + error;
  }
  return OK;
}

}  // namespace latentd
