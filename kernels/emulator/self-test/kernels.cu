// Kernels of the emulator's tests; nothing else uses them.
#include <cuda_bf16.h>

// One sum for each block: shuffles within warps, static shared memory and a barrier between them.
extern "C" __global__ void __launch_bounds__(256) self_test_block_sum(const float* in, float* out, int count) {
  __shared__ float partial[32];
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  float sum = index < count ? in[index] : 0.0f;
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) sum += partial[warp];
    out[blockIdx.x] = sum;
  }
}

// Every thread reads the value of the opposite thread; threads beyond `count` return before the barrier.
extern "C" __global__ void self_test_reverse(float* data, int count) {
  extern __shared__ float values[];
  const int thread = threadIdx.x;
  if (thread >= count) return;
  values[thread] = data[thread];
  __syncthreads();
  data[thread] = values[count - 1 - thread];
}

// Warp collectives other than xor: out[lane] = { from lane 3, from two lanes below, ballot of odd lanes, count }.
extern "C" __global__ void self_test_collectives(unsigned* out) {
  const unsigned lane = threadIdx.x;
  out[lane * 4] = __shfl_sync(0xffffffffu, lane * 10, 3);
  out[lane * 4 + 1] = __shfl_up_sync(0xffffffffu, lane, 2, 16);
  out[lane * 4 + 2] = __ballot_sync(0xffffffffu, lane & 1);
  out[lane * 4 + 3] = __reduce_add_sync(0xffffffffu, lane);
}

// y = 2 x + add, with a scalar argument that a graph must have copied.
extern "C" __global__ void self_test_affine(const float* x, float* y, float add, int count) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index < count) y[index] = 2.0f * x[index] + add;
}

// The same with one struct, as for this project's kernels.
struct SelfTestAffine {
  struct Number {
    float add;
    template <typename F>
    void each(F f) const {
      f(add);
    }
  };
  Number number;
  const float* x;
  float* y;
  int count;
  template <typename F>
  void each(F f) const {
    f(number); f(x); f(y); f(count);
  }
};

extern "C" __global__ void self_test_affine_by_struct(const __grid_constant__ SelfTestAffine of) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index < of.count) of.y[index] = 2.0f * of.x[index] + of.number.add;
}

extern "C" __global__ void self_test_write_at(float* data, long long index) {
  if (threadIdx.x == 0) data[index] = 1.0f;
}

extern "C" __global__ void self_test_diverge() {
  if (threadIdx.x == 0) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

extern "C" __global__ void self_test_overrun_shared() {
  extern __shared__ float values[];
  values[blockDim.x] = 0.0f;
}

// Wrong without a barrier, but only in one of the orders in which threads may run.
extern "C" __global__ void self_test_missing_barrier(float* out) {
  __shared__ float value;
  if (threadIdx.x == 0) value = 1.0f;
  out[blockIdx.x * blockDim.x + threadIdx.x] = value;
  __syncthreads();
  if (threadIdx.x == 0) value = 0.0f;
}
