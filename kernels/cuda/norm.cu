// LayerNorm and RMSNorm of rows, with weights: y = (x - mean) / sqrt(variance + eps) * w + b and
// y = x / sqrt(mean(x^2) + eps) * w.
//
//   x  [rows, D] f32|bf16 at any strides over whole rows;  w, b [D];  y [rows, D], all of x's type
//
// Bytes moved, bf16: rows * D * (2 + 2). The text encoders' largest, T5's [2 * 256, 4096]: 8.4 MB, 2.5 us at an H100's
// 3.35 TB/s, so these launches are short of rows, not of bandwidth.
//
// A row has one warp up to 1280 bf16, as CLIP's have, and four at T5's 4096 (rows.cuh).

#include "rows.cuh"

template <typename T, bool FAST>
__device__ __forceinline__ void layer_norm(const Team& team, T* out, const T* x, const T* weight, const T* bias,
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
__device__ __forceinline__ void rms_norm(const Team& team, T* out, const T* x, const T* weight, uint32_t width,
                                         float eps) {
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

#define NORM(T, suffix)                                                                                                \
  ROW_KERNEL layer_norm_##suffix(T* out, const T* x, const T* weight, const T* bias, int64_t x_batch_stride,           \
                                 int64_t x_row_stride, uint32_t total, uint32_t rows, uint32_t width, uint32_t warps,  \
                                 uint32_t fast, float eps) {                                                           \
    const Team team(total, rows, width, warps);                                                                        \
    x = team.of(x, x_batch_stride, x_row_stride);                                                                      \
    if (fast) {                                                                                                        \
      layer_norm<T, true>(team, out, x, weight, bias, width, eps);                                                     \
    } else {                                                                                                           \
      layer_norm<T, false>(team, out, x, weight, bias, width, eps);                                                    \
    }                                                                                                                  \
  }                                                                                                                    \
  ROW_KERNEL rms_norm_##suffix(T* out, const T* x, const T* weight, int64_t x_batch_stride, int64_t x_row_stride,      \
                               uint32_t total, uint32_t rows, uint32_t width, uint32_t warps, uint32_t fast,           \
                               float eps) {                                                                            \
    const Team team(total, rows, width, warps);                                                                        \
    x = team.of(x, x_batch_stride, x_row_stride);                                                                      \
    if (fast) {                                                                                                        \
      rms_norm<T, true>(team, out, x, weight, width, eps);                                                             \
    } else {                                                                                                           \
      rms_norm<T, false>(team, out, x, weight, width, eps);                                                            \
    }                                                                                                                  \
  }

NORM(float, f32)
NORM(bf16, bf16)
