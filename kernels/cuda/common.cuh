// Helpers of the kernels: storage types widened to f32, 16-byte vectors, and reductions that always add in one order.
//
// Kernels depend on sizes, not on models. Storage is f32 or bf16, arithmetic is f32, and a result is rounded once. They also
// compile as ordinary C++ (kernels/emulator), so nothing here may need a tensor core or inline assembly.
#pragma once

#include "arguments.cuh"

#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <stdint.h>

using bf16 = __nv_bfloat16;
using e4m3 = __nv_fp8_e4m3;

// Dynamic shared memory as an array: CUDA allows only one declaration for all types.
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(type, name)                            \
  extern __shared__ __align__(16) unsigned char name##_raw[]; \
  type* name = reinterpret_cast<type*>(name##_raw)
#endif

// The kernels `op`_f32 and `op`_bf16, which call the template `op` with their one argument. The remaining arguments are launch bounds.
#define KERNELS(op, Arguments, ...) \
  KERNEL(op, float, f32, Arguments, __VA_ARGS__) KERNEL(op, bf16, bf16, Arguments, __VA_ARGS__)
#define KERNEL(op, T, dtype, Arguments, ...)               \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__) \
      op##_##dtype(const __grid_constant__ Arguments<T> arguments) { op(arguments); }

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bf16 x) { return __bfloat162float(x); }

template <typename T>
__device__ __forceinline__ T narrow(float x);
template <>
__device__ __forceinline__ float narrow<float>(float x) { return x; }
template <>
__device__ __forceinline__ bf16 narrow<bf16>(float x) { return __float2bfloat16_rn(x); }
// Saturates at 448, the largest e4m3.
template <>
__device__ __forceinline__ e4m3 narrow<e4m3>(float x) { return e4m3(x); }

// N neighbouring elements that move as one word. The address must be aligned to their size.
template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
};

template <typename T, int N>
__device__ __forceinline__ void load(const T* from, float (&to)[N]) {
  const Vector<T, N> v = *reinterpret_cast<const Vector<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; i++) to[i] = widen(v.at[i]);
}

template <typename T, int N>
__device__ __forceinline__ void store(T* to, const float (&from)[N]) {
  Vector<T, N> v;
#pragma unroll
  for (int i = 0; i < N; i++) v.at[i] = narrow<T>(from[i]);
  *reinterpret_cast<Vector<T, N>*>(to) = v;
}

// The same sum on every lane, added in one order whatever the lane.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

// Reductions over a whole block of at most 1024 threads, a multiple of a warp; `scratch` is 32 floats of shared memory that two
// calls in a row may share.
__device__ __forceinline__ float block_sum(float x, float* scratch) {
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  x = warp_sum(x);
  __syncthreads();
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? scratch[lane] : 0.0f);
}

__device__ __forceinline__ float block_max(float x, float* scratch) {
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  x = warp_max(x);
  __syncthreads();
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_max(lane < warps ? scratch[lane] : -INFINITY);
}

__device__ __forceinline__ float gelu_tanh(float x) {
  return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }
