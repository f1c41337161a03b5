// Helpers of the kernels over rows: a row is read once, with 16-byte words, and stays in its threads' registers.
//
// A team of `warps` warps takes a row of D elements. The row is cut into vectors of 16 bytes; thread t of a team of n
// takes vectors t, t + n, ... and keeps at most SLOTS of them. 2432 bf16 are 304 vectors, 4.75 for each lane of two
// warps: all loads of a row are in flight at once, and a sum over it needs one exchange between two warps. The warps are
// chosen in src/cuda/rows.rs, by D and the type alone.
//
// There are two paths to read a row, selected by `FAST`. Fast: every row starts at a multiple of 16 bytes, D is
// whole vectors and fits the registers. Otherwise elements are read one by one, and again in each pass. Either way a
// thread has the same elements and adds them in the same order, so a result's bits depend on D alone, not on
// strides or addresses, nor on what else is in the launch.
#pragma once

#include "common.cuh"

constexpr int MAX_THREADS = MAX_TEAM_WARPS * WARP;

template <typename T>
constexpr int WIDTH = WORD_BYTES / sizeof(T);

// This thread's position: its row (of all batch elements' rows, one after the other) and its part of the row.
struct Team {
  uint32_t batch, row;        // the row's batch element, and which of that element's rows it is
  uint64_t index;             // the row among all rows
  uint32_t width;             // D; 0 past the last row, so that nothing is read or written there
  uint32_t thread, threads;
  uint32_t warps, first_warp; // `first_warp` is the team's first in the block

  __device__ __forceinline__ explicit Team(const RowSizes& sizes) {
    const uint32_t team_threads = sizes.warps * WARP, team = threadIdx.x / team_threads;
    index = uint64_t(blockIdx.x) * (blockDim.x / team_threads) + team;
    const uint32_t known = index < sizes.total ? uint32_t(index) : 0;
    batch = known / sizes.rows;
    row = known % sizes.rows;
    width = index < sizes.total ? sizes.width : 0;
    thread = threadIdx.x % team_threads;
    threads = team_threads;
    warps = sizes.warps;
    first_warp = team * sizes.warps;
  }

  // The team's row of a tensor, and its batch element's only row of one.
  template <typename T>
  __device__ __forceinline__ const T* of(const T* x, const Strides& strides) const {
    return x + batch * strides.batch + row * strides.row;
  }
  template <typename T>
  __device__ __forceinline__ const T* of(const T* x, int64_t batch_stride) const {
    return x + batch * batch_stride;
  }
  template <typename T>
  __device__ __forceinline__ T* of_output(T* out) const { return out + index * width; }
};

// Calls f(slot, first element) for every vector of this thread.
template <bool FAST, int N, typename F>
__device__ __forceinline__ void each_vector(const Team& team, F f) {
  if constexpr (FAST) {
#pragma unroll
    for (int slot = 0; slot < SLOTS; slot++) {
      const uint32_t first = (team.thread + slot * team.threads) * N;
      if (first < team.width) f(slot, first);
    }
  } else {
    for (uint32_t first = team.thread * N; first < team.width; first += team.threads * N) f(0, first);
  }
}

// The vector at `first` of a row; zeros beyond its end.
template <bool FAST, typename T, int N>
__device__ __forceinline__ void load_vector(const T* row, uint32_t first, uint32_t width, float (&to)[N]) {
  if constexpr (FAST) {
    load(row + first, to);
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = first + i < width ? widen(row[first + i]) : 0.0f;
  }
}

template <bool FAST, typename T, int N>
__device__ __forceinline__ void store_vector(T* row, uint32_t first, uint32_t width, const float (&from)[N]) {
  if constexpr (FAST) {
    store(row + first, from);
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) {
      if (first + i < width) row[first + i] = narrow<T>(from[i]);
    }
  }
}

// A row in its storage type, kept in registers on the fast path.
template <typename T, bool FAST>
struct Row {
  static constexpr int N = WIDTH<T>;
  const T* from;
  Vector<T, N> kept[FAST ? SLOTS : 1];

  __device__ __forceinline__ Row(const Team& team, const T* from_) : from(from_) {
    if constexpr (FAST) {
      each_vector<FAST, N>(team, [&](int slot, uint32_t first) {
        kept[slot] = *reinterpret_cast<const Vector<T, N>*>(from + first);
      });
    }
  }

  // Replaces a vector by `x`, rounded; on the slow path the row is read from `to` from then on.
  __device__ __forceinline__ void put(const Team& team, int slot, uint32_t first, const float (&x)[N], T* to) {
    if constexpr (FAST) {
#pragma unroll
      for (int i = 0; i < N; i++) kept[slot].at[i] = narrow<T>(x[i]);
      *reinterpret_cast<Vector<T, N>*>(to + first) = kept[slot];
    } else {
      store_vector<FAST>(to, first, team.width, x);
    }
  }

  __device__ __forceinline__ void get(const Team& team, int slot, uint32_t first, float (&x)[N]) const {
    if constexpr (FAST) {
#pragma unroll
      for (int i = 0; i < N; i++) x[i] = widen(kept[slot].at[i]);
    } else {
      load_vector<FAST>(from, first, team.width, x);
    }
  }
};

// Never contracted with the following addition, which the compiler might do in one kernel and not in another.
__device__ __forceinline__ float square(float x) { return __fmul_rn(x, x); }

template <int N>
__device__ __forceinline__ float sum_of(const float (&x)[N]) {
  float sum[N];
#pragma unroll
  for (int i = 0; i < N; i++) sum[i] = x[i];
#pragma unroll
  for (int half = N / 2; half > 0; half /= 2) {
#pragma unroll
    for (int i = 0; i < half; i++) sum[i] += sum[i + half];
  }
  return sum[0];
}

// The sum over a team; all threads of the block must call it. `scratch` is an array of shared memory.
__device__ __forceinline__ float team_sum(const Team& team, float x, float (&scratch)[MAX_TEAM_WARPS]) {
  x = warp_sum(x);
  if (team.warps == 1) return x;
  __syncthreads();
  if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = x;
  __syncthreads();
  float sum = 0.0f;
  for (uint32_t warp = 0; warp < team.warps; warp++) sum += scratch[team.first_warp + warp];
  return sum;
}

__device__ __forceinline__ float team_max(const Team& team, float x, float (&scratch)[MAX_TEAM_WARPS]) {
  x = warp_max(x);
  if (team.warps == 1) return x;
  __syncthreads();
  if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = x;
  __syncthreads();
  float largest = scratch[team.first_warp];
  for (uint32_t warp = 1; warp < team.warps; warp++) largest = fmaxf(largest, scratch[team.first_warp + warp]);
  return largest;
}

struct Moments {
  float mean, inverse;  // inverse = 1 / sqrt(variance + eps)
};

// Of `width` elements. The variance is taken of differences from the mean: large rows must not cancel.
template <typename T, bool FAST>
__device__ __forceinline__ Moments moments(const Team& team, const Row<T, FAST>& row, uint32_t width, float eps,
                                           float (&scratch)[MAX_TEAM_WARPS]) {
  constexpr int N = WIDTH<T>;
  float sum = 0.0f, squares = 0.0f;
  each_vector<FAST, N>(team, [&](int slot, uint32_t first) {
    float x[N];
    row.get(team, slot, first, x);
    sum += sum_of(x);
  });
  const float mean = team_sum(team, sum, scratch) / float(width);
  each_vector<FAST, N>(team, [&](int slot, uint32_t first) {
    float x[N];
    row.get(team, slot, first, x);
#pragma unroll
    for (int i = 0; i < N; i++) {
      const float difference = FAST || first + i < team.width ? x[i] - mean : 0.0f;
      x[i] = square(difference);
    }
    squares += sum_of(x);
  });
  const float variance = team_sum(team, squares, scratch) / float(width);
  return {mean, 1.0f / sqrtf(variance + eps)};
}

// Adaptive LayerNorm of a row: (x - mean) * inverse * (1 + scale) + shift.
template <typename T, bool FAST>
struct Modulated {
  static constexpr int N = WIDTH<T>;
  const Team& team;
  const Row<T, FAST>& row;
  const T *shift, *scale;
  Moments moments;

  __device__ __forceinline__ void operator()(int slot, uint32_t first, float (&y)[N]) const {
    float factor[N], summand[N];
    row.get(team, slot, first, y);
    load_vector<FAST>(scale, first, team.width, factor);
    load_vector<FAST>(shift, first, team.width, summand);
#pragma unroll
    for (int i = 0; i < N; i++) {
      y[i] = fmaf((y[i] - moments.mean) * moments.inverse, 1.0f + factor[i], summand[i]);
    }
  }
};

// A row whose vectors `value_at(slot, first, y)` computes, in its storage type.
template <typename T, bool FAST, typename F>
__device__ __forceinline__ void store_row(const Team& team, F value_at, T* out) {
  each_vector<FAST, WIDTH<T>>(team, [&](int slot, uint32_t first) {
    float y[WIDTH<T>];
    value_at(slot, first, y);
    store_vector<FAST>(out, first, team.width, y);
  });
}

// A row as e4m3 with one scale, so that its largest magnitude becomes 448. `value_at(slot, first, y)` computes a vector
// of it. A row of zeros has scale 1. NaN stays NaN; infinity makes the scale infinite.
template <typename T, bool FAST, typename F>
__device__ __forceinline__ void quantize_row(const Team& team, F value_at, e4m3* values, float* scales,
                                             float (&scratch)[MAX_TEAM_WARPS]) {
  constexpr int N = WIDTH<T>;
  float kept[FAST ? SLOTS : 1][N];
  float largest = 0.0f;
  each_vector<FAST, N>(team, [&](int slot, uint32_t first) {
    value_at(slot, first, kept[slot]);
#pragma unroll
    for (int i = 0; i < N; i++) {
      if (FAST || first + i < team.width) largest = fmaxf(largest, fabsf(kept[slot][i]));
    }
  });
  largest = team_max(team, largest, scratch);
  // The smallest normal number keeps 1 / scale finite.
  const float scale = largest == 0.0f ? 1.0f : fmaxf(largest / 448.0f, 1.17549435e-38f);
  const float inverse = 1.0f / scale;
  if (team.width > 0 && team.thread == 0) scales[team.index] = scale;
  e4m3* to = team.of_output(values);
  each_vector<FAST, N>(team, [&](int slot, uint32_t first) {
    if constexpr (!FAST) value_at(slot, first, kept[slot]);
    Vector<__nv_fp8x2_storage_t, N / 2> pairs;
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      const float2 pair = make_float2(kept[slot][i] * inverse, kept[slot][i + 1] * inverse);
      pairs.at[i / 2] = __nv_cvt_float2_to_fp8x2(pair, __NV_SATFINITE, __NV_E4M3);
    }
    if constexpr (FAST) {
      *reinterpret_cast<Vector<__nv_fp8x2_storage_t, N / 2>*>(to + first) = pairs;
    } else {
#pragma unroll
      for (int i = 0; i < N; i++) {
        if (first + i < team.width) to[first + i].__x = __nv_fp8_storage_t(pairs.at[i / 2] >> (8 * (i % 2)));
      }
    }
  });
}

// A row as it is stored, or as e4m3.
template <typename T, bool FAST, bool ROWWISE, typename F>
__device__ __forceinline__ void put_row(const Team& team, F value_at, const Normed<T>& to,
                                        float (&scratch)[MAX_TEAM_WARPS]) {
  if constexpr (ROWWISE) {
    quantize_row<T, FAST>(team, value_at, to.values, to.scales, scratch);
  } else {
    store_row<T, FAST>(team, value_at, team.of_output(to.out));
  }
}
