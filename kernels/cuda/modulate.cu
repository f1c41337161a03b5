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
// Two warps process a row (see rows.cuh) and are a block. Some ten rows are in flight on a multiprocessor,
// nearly always of one batch element, so that most reads of the modulations hit L1. The row's maximum needs the
// whole normalised row, which is kept as f32 in the registers that held the row.

#include "rows.cuh"

namespace {

template <typename T, bool FAST, bool ROWWISE>
__device__ __forceinline__ void modulate_by(const Team& team, const Normed<T>& to, const T* __restrict__ x,
                                            const T* __restrict__ shift, const T* __restrict__ scale, uint32_t width,
                                            float eps) {
  __shared__ float scratch[MAX_TEAM_WARPS];
  const Row<T, FAST> row(team, x);
  const Moments of = moments(team, row, width, eps, scratch);
  put_row<T, FAST, ROWWISE>(team, Modulated<T, FAST>{team, row, shift, scale, of}, to, scratch);
}

template <bool ROWWISE, typename T>
__device__ __forceinline__ void modulate(const LayerNormModulate<T>& of) {
  const Team team(of.sizes);
  const T* x = team.of(of.x, of.x_strides);
  const T *shift = team.of(of.shift, of.mods_stride), *scale = team.of(of.scale, of.mods_stride);
  if (of.sizes.fast) {
    modulate_by<T, true, ROWWISE>(team, of.to, x, shift, scale, of.sizes.width, of.eps);
  } else {
    modulate_by<T, false, ROWWISE>(team, of.to, x, shift, scale, of.sizes.width, of.eps);
  }
}

template <typename T>
__device__ __forceinline__ void layer_norm_modulate(const LayerNormModulate<T>& of) { modulate<false>(of); }

template <typename T>
__device__ __forceinline__ void layer_norm_modulate_rowwise(const LayerNormModulate<T>& of) { modulate<true>(of); }

}  // namespace

KERNELS(layer_norm_modulate, LayerNormModulate, MAX_THREADS, 1)
KERNELS(layer_norm_modulate_rowwise, LayerNormModulate, MAX_THREADS, 1)
