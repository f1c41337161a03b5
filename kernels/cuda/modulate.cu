// Adaptive LayerNorm: y = (x - mean) / sqrt(variance + eps) * (1 + scale) + shift, mean and variance of a row of x.
//
//   x      [B, L, D]  f32|bf16, rows at any strides
//   shift  [B, D]     scale [B, D], of x's type: two of the N rows of a batch element's modulations
//   y      [B, L, D]  of x's type, or as values [B, L, D] e4m3 and scales [B, L] f32 with y = values * scale, where
//                     scale = max|y| / 448
//
// Bytes moved, bf16: B * L * D * (2 + 2), or (2 + 1) as e4m3; the modulations stay in the caches. B = 2, L = 4096,
// D = 2432 (1024x1024 with guidance): 80 MB or 60 MB, 24 us or 18 us at an H100's 3.35 TB/s.
//
// Two warps have a row (rows.cuh says why) and a block to themselves. Some ten rows are under way on a multiprocessor,
// nearly always of one batch element, so that L1 answers most reads of the modulations. The row's maximum needs the
// whole normalised row, which is kept as f32 in the registers that held the row.

#include "rows.cuh"

template <typename T, bool FAST>
__device__ __forceinline__ void layer_norm_modulate(const Team& team, T* out, const T* x, const T* shift,
                                                    const T* scale, uint32_t width, float eps) {
  __shared__ float scratch[MAX_TEAM_WARPS];
  const Row<T, FAST> row(team, x);
  const Moments of = moments(team, row, width, eps, scratch);
  store_row<T, FAST>(team, Modulated<T, FAST>{team, row, shift, scale, of}, team.of_output(out));
}

template <typename T, bool FAST>
__device__ __forceinline__ void layer_norm_modulate_rowwise(const Team& team, e4m3* values, float* scales, const T* x,
                                                            const T* shift, const T* scale, uint32_t width,
                                                            float eps) {
  __shared__ float scratch[MAX_TEAM_WARPS];
  const Row<T, FAST> row(team, x);
  const Moments of = moments(team, row, width, eps, scratch);
  quantize_row<T, FAST>(team, Modulated<T, FAST>{team, row, shift, scale, of}, values, scales, scratch);
}

#define MODULATE(T, suffix)                                                                                            \
  ROW_KERNEL layer_norm_modulate_##suffix(T* out, const T* x, const T* shift, const T* scale, int64_t x_batch_stride,  \
                                          int64_t x_row_stride, int64_t mods_batch_stride, uint32_t total,             \
                                          uint32_t rows, uint32_t width, uint32_t warps, uint32_t fast, float eps) {   \
    const Team team(total, rows, width, warps);                                                                        \
    x = team.of(x, x_batch_stride, x_row_stride);                                                                      \
    shift = team.of(shift, mods_batch_stride, 0);                                                                      \
    scale = team.of(scale, mods_batch_stride, 0);                                                                      \
    if (fast) {                                                                                                        \
      layer_norm_modulate<T, true>(team, out, x, shift, scale, width, eps);                                            \
    } else {                                                                                                           \
      layer_norm_modulate<T, false>(team, out, x, shift, scale, width, eps);                                           \
    }                                                                                                                  \
  }                                                                                                                    \
  ROW_KERNEL layer_norm_modulate_rowwise_##suffix(                                                                \
      e4m3* values, float* scales, const T* x, const T* shift, const T* scale, int64_t x_batch_stride,                 \
      int64_t x_row_stride, int64_t mods_batch_stride, uint32_t total, uint32_t rows, uint32_t width, uint32_t warps,  \
      uint32_t fast, float eps) {                                                                                      \
    const Team team(total, rows, width, warps);                                                                        \
    x = team.of(x, x_batch_stride, x_row_stride);                                                                      \
    shift = team.of(shift, mods_batch_stride, 0);                                                                      \
    scale = team.of(scale, mods_batch_stride, 0);                                                                      \
    if (fast) {                                                                                                        \
      layer_norm_modulate_rowwise<T, true>(team, values, scales, x, shift, scale, width, eps);                         \
    } else {                                                                                                           \
      layer_norm_modulate_rowwise<T, false>(team, values, scales, x, shift, scale, width, eps);                        \
    }                                                                                                                  \
  }

MODULATE(float, f32)
MODULATE(bf16, bf16)
