// LayerNorm and RMSNorm of rows, with weights: y = (x - mean) / sqrt(variance + eps) * w + b and
// y = x / sqrt(mean(x^2) + eps) * w.
//
//   x  [rows, D] f32|bf16 at any strides over whole rows;  w, b [D];  y [rows, D], all of x's type
//
// Bytes moved, bf16: rows * D * (2 + 2). The text encoders' largest, T5's [2 * 256, 4096]: 8.4 MB, 2.5 us at an H100's
// 3.35 TB/s, so these launches are limited by their few rows, not by bandwidth.
//
// A row has one warp up to 1280 bf16, as CLIP's have, and four at T5's 4096 (rows.cuh).

#include "rows.cuh"

namespace {

template <typename T, bool FAST>
__device__ __forceinline__ void layer_norm_by(const Team& team, T* __restrict__ out, const T* __restrict__ x,
                                              const T* __restrict__ weight, const T* __restrict__ bias,
                                              uint32_t width, float eps) {
  constexpr int N = WIDTH<T>;
  __shared__ float scratch[MAX_TEAM_WARPS];
  const Row<T, FAST> row(team, x);
  const Moments of = moments(team, row, width, eps, scratch);
  const auto normed = [&](int slot, uint32_t first, float(&y)[N]) {
    float factor[N], summand[N];
    row.get(team, slot, first, y);
    load_vector<FAST>(weight, first, team.width, factor);
    load_vector<FAST>(bias, first, team.width, summand);
#pragma unroll
    for (int i = 0; i < N; i++) y[i] = fmaf((y[i] - of.mean) * of.inverse, factor[i], summand[i]);
  };
  store_row<T, FAST>(team, normed, team.of_output(out));
}

template <typename T, bool FAST>
__device__ __forceinline__ void rms_norm_by(const Team& team, T* __restrict__ out, const T* __restrict__ x,
                                            const T* __restrict__ weight, uint32_t width, float eps) {
  constexpr int N = WIDTH<T>;
  __shared__ float scratch[MAX_TEAM_WARPS];
  const Row<T, FAST> row(team, x);
  float squares = 0.0f;
  each_vector<FAST, N>(team, [&](int slot, uint32_t first) {
    float y[N];
    row.get(team, slot, first, y);
#pragma unroll
    for (int i = 0; i < N; i++) y[i] = square(y[i]);
    squares += sum_of(y);
  });
  const float inverse = 1.0f / sqrtf(team_sum(team, squares, scratch) / float(width) + eps);
  const auto normed = [&](int slot, uint32_t first, float(&y)[N]) {
    float factor[N];
    row.get(team, slot, first, y);
    load_vector<FAST>(weight, first, team.width, factor);
#pragma unroll
    for (int i = 0; i < N; i++) y[i] = y[i] * inverse * factor[i];
  };
  store_row<T, FAST>(team, normed, team.of_output(out));
}

template <typename T>
__device__ __forceinline__ void layer_norm(const LayerNorm<T>& of) {
  const Team team(of.sizes);
  const T* x = team.of(of.x, of.x_strides);
  if (of.sizes.fast) {
    layer_norm_by<T, true>(team, of.out, x, of.weight, of.bias, of.sizes.width, of.eps);
  } else {
    layer_norm_by<T, false>(team, of.out, x, of.weight, of.bias, of.sizes.width, of.eps);
  }
}

template <typename T>
__device__ __forceinline__ void rms_norm(const RmsNorm<T>& of) {
  const Team team(of.sizes);
  const T* x = team.of(of.x, of.x_strides);
  if (of.sizes.fast) {
    rms_norm_by<T, true>(team, of.out, x, of.weight, of.sizes.width, of.eps);
  } else {
    rms_norm_by<T, false>(team, of.out, x, of.weight, of.sizes.width, of.eps);
  }
}

}  // namespace

KERNELS(layer_norm, LayerNorm, MAX_THREADS, 1)
KERNELS(rms_norm, RmsNorm, MAX_THREADS, 1)
