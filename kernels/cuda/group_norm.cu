// GroupNorm over channels-last images, with affine and an optional SiLU.
//
//   out = act((x - mean) / sqrt(variance + eps) * w + b)    mean and variance over H, W and a group's channels
//   x, out [B, H * W, C] T, w, b [C] T; T is f32 or bf16
//
// Two launches: group_norm_statistics reads x, group_norm_apply reads it again and writes out. Bytes: 3 times x, which
// for [1, 128, 1024, 1024] in bf16 is 805 MB, 0.24 ms at an H100's 3.35 TB/s (f32: 0.48 ms).
//
// Both cut the pixels of an image into `splits` chunks, one a block, whose number depends on the size alone, so that a
// image's bits depend neither on its batch nor on the card: up to 264, which is two blocks of 384 threads for each of
// an H100's 132 processors, all running at once. A block takes every channel of its pixels, so its chunk is contiguous in
// memory, and four 16-byte loads of each thread are in flight: 48 KB a multiprocessor, where bandwidth times latency is
// 15 KB. A thread keeps the same channels (C / N vectors are side by side, the rest of the block takes further pixels), so
// means and weights stay in registers. Only where C exceeds 384 vectors are channels cut too, into tiles of whole groups.
//
// A sum of squares would cancel where a group's mean is large. A thread takes the mean and the squared differences of
// four pixels at a time and merges them into its own by Chan's formula; threads, channels of a group and chunks are
// merged by the same formula in a fixed order. The last merge, of at most 264 chunks, is repeated by every block of
// group_norm_apply: cheaper than a third launch.
//
// group_norm_apply reads its chunk backwards: the pixels that the statistics read last are still in the L2 cache.
#include "common.cuh"

namespace {

constexpr int THREADS = GROUP_NORM_THREADS;
constexpr int WARPS = THREADS / WARP;
constexpr int PIXELS = 4;  // that a thread loads at once

struct Moments {
  float count, mean, squares;  // squares: sum of squared differences from the mean
};

__device__ __forceinline__ Moments merge(Moments a, Moments b) {
  const float count = a.count + b.count, weight = count > 0.0f ? b.count / count : 0.0f;
  const float delta = b.mean - a.mean;
  return {count, a.mean + delta * weight, a.squares + b.squares + delta * (a.count * weight) * delta};
}

__device__ __forceinline__ Moments merge_warp(Moments m) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) {
    Moments other;
    other.count = __shfl_xor_sync(0xffffffffu, m.count, offset);
    other.mean = __shfl_xor_sync(0xffffffffu, m.mean, offset);
    other.squares = __shfl_xor_sync(0xffffffffu, m.squares, offset);
    m = merge(m, other);
  }
  return m;
}

// The part of the image of a block, and of its thread.
struct Place {
  uint32_t batch, split, first_group, groups;  // groups: of this tile
  uint32_t vectors;                            // of the tile's channels, in a pixel
  uint32_t lanes, pixel_lanes;                 // vectors side by side, and pixels
  uint32_t lane, pixel;                        // the thread's; idle if `pixel` is not below `pixel_lanes`
  uint32_t steps;                              // pixels that the thread takes
  uint64_t first;                              // element of the thread's first pixel, without its channels

  __device__ __forceinline__ Place(const Cut& of, int n) {
    const uint32_t all = of.channels / of.group_channels, tiles = (all + of.tile_groups - 1) / of.tile_groups;
    split = blockIdx.x % of.splits;
    const uint32_t tile = blockIdx.x / of.splits % tiles;
    batch = blockIdx.x / of.splits / tiles;
    first_group = tile * of.tile_groups;
    groups = all - first_group < of.tile_groups ? all - first_group : of.tile_groups;
    vectors = groups * of.group_channels / n;
    lanes = vectors < THREADS ? vectors : THREADS;
    pixel_lanes = THREADS / lanes;
    lane = threadIdx.x % lanes;
    pixel = threadIdx.x / lanes;
    const uint32_t pixels = split_pixels(of, split);
    steps = pixel < pixel_lanes && pixel < pixels ? (pixels - pixel + pixel_lanes - 1) / pixel_lanes : 0;
    first = (batch * static_cast<uint64_t>(of.area) + static_cast<uint64_t>(split) * of.chunk + pixel) * of.channels +
            static_cast<uint64_t>(first_group) * of.group_channels;
  }

  static __device__ __forceinline__ uint32_t split_pixels(const Cut& of, uint32_t split) {
    const uint32_t left = of.area - split * of.chunk;
    return left < of.chunk ? left : of.chunk;
  }
};

// Adds P pixels to the statistics of each of N channels.
template <typename T, int N, int P>
__device__ __forceinline__ void gather(const T* at, uint64_t stride, float& count, float (&mean)[N],
                                       float (&squares)[N]) {
  Vector<T, N> x[P];  // as it is stored: widened it would not fit into the registers
#pragma unroll
  for (int p = 0; p < P; p++) x[p] = *reinterpret_cast<const Vector<T, N>*>(at + p * stride);
  const float total = count + P, weight = P / total, spread = count * weight;
#pragma unroll
  for (int i = 0; i < N; i++) {
    float sum = widen(x[0].at[i]), around = 0.0f;
#pragma unroll
    for (int p = 1; p < P; p++) sum += widen(x[p].at[i]);
    const float middle = sum * (1.0f / P), delta = middle - mean[i];
#pragma unroll
    for (int p = 0; p < P; p++) around += (widen(x[p].at[i]) - middle) * (widen(x[p].at[i]) - middle);
    mean[i] += delta * weight;
    squares[i] += around + delta * spread * delta;
  }
  count = total;
}

template <typename T, int N>
__device__ __forceinline__ void statistics_by(const T* __restrict__ x, float2* __restrict__ partials, const Cut& of,
                                              float* shared) {
  const Place at(of, N);
  const uint64_t stride = static_cast<uint64_t>(at.pixel_lanes) * of.channels;
  float count = 0.0f, mean[N] = {}, squares[N] = {};
  // More than once only where a single group is wider than the block; all of it is that group then.
  for (uint32_t vector = at.lane; vector < at.vectors; vector += at.lanes) {
    const T* from = x + at.first + static_cast<uint64_t>(vector) * N;
    uint32_t left = at.steps;
    for (; left >= PIXELS; left -= PIXELS, from += PIXELS * stride) {
      gather<T, N, PIXELS>(from, stride, count, mean, squares);
    }
    for (; left > 0; left--, from += stride) gather<T, N, 1>(from, stride, count, mean, squares);
  }

  constexpr uint32_t ROW = THREADS + 1;
  float *means = shared, *sums = shared + N * ROW, *counts = shared + 2 * N * ROW;
#pragma unroll
  for (int i = 0; i < N; i++) {
    means[i * ROW + threadIdx.x] = mean[i];
    sums[i * ROW + threadIdx.x] = squares[i];
  }
  counts[threadIdx.x] = count;
  __syncthreads();

  const uint32_t held = at.lanes * N < of.group_channels ? at.lanes * N : of.group_channels;  // channels of a group
  for (uint32_t group = threadIdx.x / WARP; group < at.groups; group += WARPS) {
    Moments total{0.0f, 0.0f, 0.0f};
    for (uint32_t entry = threadIdx.x % WARP; entry < held * at.pixel_lanes; entry += WARP) {
      const uint32_t channel = group * of.group_channels + entry % held;
      const uint32_t thread = entry / held * at.lanes + channel / N, slot = channel % N * ROW + thread;
      total = merge(total, {counts[thread], means[slot], sums[slot]});
    }
    total = merge_warp(total);
    if (threadIdx.x % WARP == 0) {
      const uint64_t all = of.channels / of.group_channels;
      partials[(at.batch * all + at.first_group + group) * of.splits + at.split] = {total.mean, total.squares};
    }
  }
}

// Few instructions, since an exact division for each of the 134 million elements of [1, 128, 1024, 1024] takes too long. The
// error is below 1e-6 of x; a large negative x may give 0 for results below 1e-36.
__device__ __forceinline__ float fast_silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

template <typename T, int N, bool SILU>
__device__ __forceinline__ void apply_by(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ b,
                                         const float2* __restrict__ partials, T* __restrict__ out, const Cut& of,
                                         float eps, float2* shared) {
  const Place at(of, N);
  for (uint32_t group = threadIdx.x / WARP; group < at.groups; group += WARPS) {
    const uint64_t all = of.channels / of.group_channels;
    const float2* from = partials + (at.batch * all + at.first_group + group) * of.splits;
    Moments total{0.0f, 0.0f, 0.0f};
    for (uint32_t split = threadIdx.x % WARP; split < of.splits; split += WARP) {
      const float count = static_cast<float>(Place::split_pixels(of, split)) * static_cast<float>(of.group_channels);
      total = merge(total, {count, from[split].x, from[split].y});
    }
    total = merge_warp(total);
    if (threadIdx.x % WARP == 0) shared[group] = {total.mean, 1.0f / sqrtf(total.squares / total.count + eps)};
  }
  __syncthreads();
  if (at.steps == 0) return;

  const int64_t stride = static_cast<int64_t>(at.pixel_lanes) * of.channels;
  for (uint32_t vector = at.lane; vector < at.vectors; vector += at.lanes) {
    const uint32_t channel = vector * N, of_all = at.first_group * of.group_channels + channel;
    float center[N], scale[N], shift[N];
    load(w + of_all, scale);
    load(b + of_all, shift);
#pragma unroll
    for (int i = 0; i < N; i++) {
      const float2 group = shared[(channel + i) / of.group_channels];
      center[i] = group.x;
      scale[i] *= group.y;
    }
    const auto finish = [&](float(&v)[N]) {
#pragma unroll
      for (int i = 0; i < N; i++) {
        v[i] = (v[i] - center[i]) * scale[i] + shift[i];
        if constexpr (SILU) v[i] = fast_silu(v[i]);
      }
    };
    int64_t last = static_cast<int64_t>(at.first + channel) + (at.steps - 1) * stride;
    uint32_t left = at.steps;
    for (; left >= PIXELS; left -= PIXELS, last -= PIXELS * stride) {
      float v[PIXELS][N];
#pragma unroll
      for (int p = 0; p < PIXELS; p++) load(x + last - p * stride, v[p]);
#pragma unroll
      for (int p = 0; p < PIXELS; p++) {
        finish(v[p]);
        store(out + last - p * stride, v[p]);
      }
    }
    for (; left > 0; left--, last -= stride) {
      float v[N];
      load(x + last, v);
      finish(v);
      store(out + last, v);
    }
  }
}

template <typename T>
__device__ __forceinline__ void group_norm_statistics(const GroupNormStatistics<T>& of) {
  DYNAMIC_SHARED(float, shared);  // [2 N + 1, THREADS + 1]
  if (of.cut.vector > 1) {
    statistics_by<T, WORD_BYTES / sizeof(T)>(of.x, of.partials, of.cut, shared);
  } else {
    statistics_by<T, 1>(of.x, of.partials, of.cut, shared);
  }
}

template <int N, typename T>
__device__ __forceinline__ void apply(const GroupNormApply<T>& of, float2* shared) {
  if (of.silu) {
    apply_by<T, N, true>(of.x, of.w, of.b, of.partials, of.out, of.cut, of.eps, shared);
  } else {
    apply_by<T, N, false>(of.x, of.w, of.b, of.partials, of.out, of.cut, of.eps, shared);
  }
}

template <typename T>
__device__ __forceinline__ void group_norm_apply(const GroupNormApply<T>& of) {
  DYNAMIC_SHARED(float2, shared);  // [tile_groups] mean, 1 / deviation
  if (of.cut.vector > 1) {
    apply<WORD_BYTES / sizeof(T)>(of, shared);
  } else {
    apply<1>(of, shared);
  }
}

}  // namespace

KERNELS(group_norm_statistics, GroupNormStatistics, THREADS, 2)
KERNELS(group_norm_apply, GroupNormApply, THREADS, 2)
