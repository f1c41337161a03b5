// The residual of an adaptive-norm block, sum = x + gate * y, alone or with the next adaptive LayerNorm of the sum:
// y' = (sum - mean) / sqrt(variance + eps) * (1 + scale) + shift.
//
//   x, y   [B, L, D]  f32|bf16, rows at any strides (y is a part of a longer sequence)
//   gate   [B, D]     shift, scale [B, D], of x's type: rows of a batch element's modulations
//   sum    [B, L, D]  of x's type; the norm is of its rounded values, so that the fused result is bit-identical
//   y'     [B, L, D]  of x's type, or as values [B, L, D] e4m3 and scales [B, L] f32 (modulate.cu)
//
// Bytes moved, bf16: B * L * D * (2 + 2 + 2) for the sum alone, 2 more with the norm, 1 more with it as e4m3. B = 2,
// L = 4096, D = 2432 (1024x1024 with guidance): 120, 159 and 139 MB, 36, 48 and 42 us at an H100's 3.35 TB/s. The norm
// on its own would read the sum again: 24 us instead of 12.
//
// Two warps process a row and are a block, as in modulate.cu. All loads of x and y are issued before the first addition.

#include "rows.cuh"

namespace {

// Writes the sum and keeps it in registers.
template <typename T, bool FAST>
__device__ __forceinline__ Row<T, FAST> gated_sum(const Team& team, T* __restrict__ sum, const T* __restrict__ x,
                                                  const T* __restrict__ y, const T* __restrict__ gate) {
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
__device__ __forceinline__ Row<T, FAST> gated_sum(const Team& team, const GatedAdd<T>& of) {
  return gated_sum<T, FAST>(team, team.of_output(of.sum), team.of(of.x, of.x_strides), team.of(of.y, of.y_strides),
                            team.of(of.gate, of.mods_stride));
}

template <typename T>
__device__ __forceinline__ void gated_add(const GatedAdd<T>& of) {
  const Team team(of.sizes);
  if (of.sizes.fast) {
    gated_sum<T, true>(team, of);
  } else {
    gated_sum<T, false>(team, of);
  }
}

template <typename T, bool FAST, bool ROWWISE>
__device__ __forceinline__ void add_modulate_by(const Team& team, const GatedAddModulate<T>& of,
                                                const T* __restrict__ shift, const T* __restrict__ scale) {
  __shared__ float scratch[MAX_TEAM_WARPS];
  const Row<T, FAST> row = gated_sum<T, FAST>(team, of.add);
  const Moments moments_of = moments(team, row, of.add.sizes.width, of.eps, scratch);
  put_row<T, FAST, ROWWISE>(team, Modulated<T, FAST>{team, row, shift, scale, moments_of}, of.to, scratch);
}

template <bool ROWWISE, typename T>
__device__ __forceinline__ void add_modulate(const GatedAddModulate<T>& of) {
  const Team team(of.add.sizes);
  const T *shift = team.of(of.shift, of.add.mods_stride), *scale = team.of(of.scale, of.add.mods_stride);
  if (of.add.sizes.fast) {
    add_modulate_by<T, true, ROWWISE>(team, of, shift, scale);
  } else {
    add_modulate_by<T, false, ROWWISE>(team, of, shift, scale);
  }
}

template <typename T>
__device__ __forceinline__ void gated_add_modulate(const GatedAddModulate<T>& of) { add_modulate<false>(of); }

template <typename T>
__device__ __forceinline__ void gated_add_modulate_rowwise(const GatedAddModulate<T>& of) { add_modulate<true>(of); }

}  // namespace

KERNELS(gated_add, GatedAdd, MAX_THREADS, 1)
KERNELS(gated_add_modulate, GatedAddModulate, MAX_THREADS, 1)
KERNELS(gated_add_modulate_rowwise, GatedAddModulate, MAX_THREADS, 1)
