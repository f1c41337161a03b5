// The residual of an adaptive-norm block, sum = x + gate * y, alone or with the next adaptive LayerNorm of the sum:
// y' = (sum - mean) / sqrt(variance + eps) * (1 + scale) + shift.
//
//   x, y   [B, L, D]  f32|bf16, rows at any strides (y is a part of a longer sequence)
//   gate   [B, D]     shift, scale [B, D], of x's type: rows of a batch element's modulations
//   sum    [B, L, D]  of x's type; the norm is taken of it as rounded, so fused or not the bits are the same
//   y'     [B, L, D]  of x's type, or as values [B, L, D] e4m3 and scales [B, L] f32 (modulate.cu)
//
// Bytes moved, bf16: B * L * D * (2 + 2 + 2) for the sum alone, 2 more with the norm, 1 more with it as e4m3. B = 2,
// L = 4096, D = 2432 (1024x1024 with guidance): 120, 159 and 139 MB, 36, 48 and 42 us at an H100's 3.35 TB/s. The norm
// on its own would read the sum again: 24 us instead of 12.
//
// Two warps have a row and a block to themselves, as in modulate.cu. All of x and y is asked for before anything is
// added.

#include "rows.cuh"

// Writes sum and keeps it.
template <typename T, bool FAST>
__device__ __forceinline__ Row<T, FAST> gated_sum(const Team& team, T* sum, const T* x, const T* y, const T* gate) {
  constexpr int N = WIDTH<T>;
  Row<T, FAST> row(team, x);
  const Row<T, FAST> other(team, y);
  each_vector<FAST, N>(team, [&](int slot, uint32_t first) {
    float a[N], b[N], by[N];
    row.get(team, slot, first, a);
    other.get(team, slot, first, b);
    load_vector<FAST>(gate, first, team.width, by);
#pragma unroll
    for (int i = 0; i < N; i++) a[i] = fmaf(by[i], b[i], a[i]);
    row.put(team, slot, first, a, sum);
  });
  row.from = sum;
  return row;
}

template <typename T, bool FAST>
__device__ __forceinline__ void gated_add_modulate(const Team& team, T* sum, T* out, const T* x, const T* y,
                                                   const T* gate, const T* shift, const T* scale, uint32_t width,
                                                   float eps) {
  __shared__ float scratch[MAX_TEAM_WARPS];
  const Row<T, FAST> row = gated_sum<T, FAST>(team, team.of_output(sum), x, y, gate);
  const Moments of = moments(team, row, width, eps, scratch);
  store_row<T, FAST>(team, Modulated<T, FAST>{team, row, shift, scale, of}, team.of_output(out));
}

template <typename T, bool FAST>
__device__ __forceinline__ void gated_add_modulate_rowwise(const Team& team, T* sum, e4m3* values, float* scales,
                                                           const T* x, const T* y, const T* gate, const T* shift,
                                                           const T* scale, uint32_t width, float eps) {
  __shared__ float scratch[MAX_TEAM_WARPS];
  const Row<T, FAST> row = gated_sum<T, FAST>(team, team.of_output(sum), x, y, gate);
  const Moments of = moments(team, row, width, eps, scratch);
  quantize_row<T, FAST>(team, Modulated<T, FAST>{team, row, shift, scale, of}, values, scales, scratch);
}

#define RESIDUAL(T, suffix)                                                                                            \
  ROW_KERNEL gated_add_##suffix(T* sum, const T* x, const T* y, const T* gate, int64_t x_batch_stride,                 \
                                int64_t x_row_stride, int64_t y_batch_stride, int64_t y_row_stride,                    \
                                int64_t mods_batch_stride, uint32_t total, uint32_t rows, uint32_t width,              \
                                uint32_t warps, uint32_t fast) {                                                       \
    const Team team(total, rows, width, warps);                                                                        \
    x = team.of(x, x_batch_stride, x_row_stride);                                                                      \
    y = team.of(y, y_batch_stride, y_row_stride);                                                                      \
    gate = team.of(gate, mods_batch_stride, 0);                                                                        \
    if (fast) {                                                                                                        \
      gated_sum<T, true>(team, team.of_output(sum), x, y, gate);                                                       \
    } else {                                                                                                           \
      gated_sum<T, false>(team, team.of_output(sum), x, y, gate);                                                      \
    }                                                                                                                  \
  }                                                                                                                    \
  ROW_KERNEL gated_add_modulate_##suffix(                                                                              \
      T* sum, T* out, const T* x, const T* y, const T* gate, const T* shift, const T* scale, int64_t x_batch_stride,   \
      int64_t x_row_stride, int64_t y_batch_stride, int64_t y_row_stride, int64_t mods_batch_stride,                   \
      int64_t norm_mods_batch_stride, uint32_t total, uint32_t rows, uint32_t width, uint32_t warps, uint32_t fast,    \
      float eps) {                                                                                                     \
    const Team team(total, rows, width, warps);                                                                        \
    x = team.of(x, x_batch_stride, x_row_stride);                                                                      \
    y = team.of(y, y_batch_stride, y_row_stride);                                                                      \
    gate = team.of(gate, mods_batch_stride, 0);                                                                        \
    shift = team.of(shift, norm_mods_batch_stride, 0);                                                                 \
    scale = team.of(scale, norm_mods_batch_stride, 0);                                                                 \
    if (fast) {                                                                                                        \
      gated_add_modulate<T, true>(team, sum, out, x, y, gate, shift, scale, width, eps);                               \
    } else {                                                                                                           \
      gated_add_modulate<T, false>(team, sum, out, x, y, gate, shift, scale, width, eps);                              \
    }                                                                                                                  \
  }                                                                                                                    \
  ROW_KERNEL gated_add_modulate_rowwise_##suffix(                                                                 \
      T* sum, e4m3* values, float* scales, const T* x, const T* y, const T* gate, const T* shift, const T* scale,      \
      int64_t x_batch_stride, int64_t x_row_stride, int64_t y_batch_stride, int64_t y_row_stride,                      \
      int64_t mods_batch_stride, int64_t norm_mods_batch_stride, uint32_t total, uint32_t rows, uint32_t width,        \
      uint32_t warps, uint32_t fast, float eps) {                                                                      \
    const Team team(total, rows, width, warps);                                                                        \
    x = team.of(x, x_batch_stride, x_row_stride);                                                                      \
    y = team.of(y, y_batch_stride, y_row_stride);                                                                      \
    gate = team.of(gate, mods_batch_stride, 0);                                                                        \
    shift = team.of(shift, norm_mods_batch_stride, 0);                                                                 \
    scale = team.of(scale, norm_mods_batch_stride, 0);                                                                 \
    if (fast) {                                                                                                        \
      gated_add_modulate_rowwise<T, true>(team, sum, values, scales, x, y, gate, shift, scale, width, eps);            \
    } else {                                                                                                           \
      gated_add_modulate_rowwise<T, false>(team, sum, values, scales, x, y, gate, shift, scale, width, eps);           \
    }                                                                                                                  \
  }

RESIDUAL(float, f32)
RESIDUAL(bf16, bf16)
