// Rows as e4m3 with a scale each: values = round(f(x) / scale), scale = max|f(x)| / 448 over the row, f the identity or
// GELU in its tanh form.
//
//   x       [rows, D] f32|bf16 at any strides over whole rows
//   values  [rows, D] e4m3;  scales [rows] f32, 1 for a row of zeros
//
// Bytes moved, bf16: rows * D * (2 + 1). The MLP's hidden rows, 2 * 4096 x 9728 (1024x1024 with guidance): 239 MB, 71
// us at an H100's 3.35 TB/s.
//
// 9728 bf16 are 1216 vectors, 4.75 for each lane of eight warps; attention's 2432 have two warps (rows.cuh). GELU takes
// almost as long as the memory traffic, so it uses the fast exponential and division, whose error of some 1e-6 is
// negligible against e4m3's 1/16.

#include "rows.cuh"

namespace {

// x / 2 * (1 + tanh(u)) is x / (1 + exp(-2u)), which does not cancel for negative x.
__device__ __forceinline__ float fast_gelu(float x) {
  const float twice = 1.5957691216057308f * x * fmaf(0.044715f * x, x, 1.0f);
  return __fdividef(x, 1.0f + __expf(-twice));
}

template <typename T, bool FAST, bool GELU>
__device__ __forceinline__ void quantize_by(const Team& team, e4m3* __restrict__ values, float* __restrict__ scales,
                                            const T* __restrict__ x) {
  constexpr int N = WIDTH<T>;
  __shared__ float scratch[MAX_TEAM_WARPS];
  const Row<T, FAST> row(team, x);
  const auto value = [&](int slot, uint32_t first, float(&y)[N]) {
    row.get(team, slot, first, y);
    if constexpr (GELU) {
#pragma unroll
      for (int i = 0; i < N; i++) y[i] = fast_gelu(y[i]);
    }
  };
  quantize_row<T, FAST>(team, value, values, scales, scratch);
}

template <bool GELU, typename T>
__device__ __forceinline__ void quantize(const QuantizeRowwise<T>& of) {
  const Team team(of.sizes);
  const T* x = team.of(of.x, of.x_strides);
  if (of.sizes.fast) {
    quantize_by<T, true, GELU>(team, of.values, of.scales, x);
  } else {
    quantize_by<T, false, GELU>(team, of.values, of.scales, x);
  }
}

template <typename T>
__device__ __forceinline__ void quantize_rowwise(const QuantizeRowwise<T>& of) { quantize<false>(of); }

template <typename T>
__device__ __forceinline__ void quantize_rowwise_gelu(const QuantizeRowwise<T>& of) { quantize<true>(of); }

}  // namespace

KERNELS(quantize_rowwise, QuantizeRowwise, MAX_THREADS, 1)
KERNELS(quantize_rowwise_gelu, QuantizeRowwise, MAX_THREADS, 1)
