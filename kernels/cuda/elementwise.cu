// Maps over whole tensors: activations in place, sums, and nearest-neighbour upsampling.
//
//   activate   x = act(x)                                  x [any dense layout]
//   add        out = a + b                                 a, b, out [the same dense layout]
//   upsample   out[b, i, j, c] = x[b, i / 2, j / 2, c]     x [B, H, W, C], out [B, 2H, 2W, C]
//
// T is f32 or bf16. Bytes moved: 2, 3 and 5 times the size of x, each byte once. On an H100 (3.35 TB/s) the largest
// uses in bf16 take at least
//   activate [4096, 2432]          40 MB    12 us
//   add      [1, 1024, 1024, 128]  805 MB   0.24 ms
//   upsample [1, 512, 512, 256]    671 MB   0.20 ms
//
// A thread moves one 16-byte vector: 2048 threads of a multiprocessor then have 32 KB in flight, twice bandwidth times
// latency (25 GB/s/SM * 0.6 us), so more loads for each thread gain nothing.
#include "common.cuh"

namespace {

template <uint32_t ACT>
__device__ __forceinline__ float apply(float x) {
  if constexpr (ACT == GELU_TANH) return gelu_tanh(x);
  if constexpr (ACT == GELU_ERF) return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
  if constexpr (ACT == QUICK_GELU) return x / (1.0f + expf(-1.702f * x));
  if constexpr (ACT == SILU) return silu(x);
  return x < 0.0f ? 0.0f : x;  // keeps NaN, as fmaxf would not
}

__device__ __forceinline__ bool aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % WORD_BYTES == 0; }

// The first of a thread's elements, N apart.
__device__ __forceinline__ uint64_t first_element(int n) {
  return (static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * n;
}

template <typename T, uint32_t ACT>
__device__ __forceinline__ void activate_by(T* x, uint64_t count) {
  constexpr int N = WORD_BYTES / sizeof(T);
  const uint64_t first = first_element(N);
  if (first >= count) return;
  if (count - first >= N && aligned(x)) {
    float v[N];
    load(x + first, v);
#pragma unroll
    for (int i = 0; i < N; i++) v[i] = apply<ACT>(v[i]);
    store(x + first, v);
  } else {
    for (uint64_t i = first; i < count && i < first + N; i++) x[i] = narrow<T>(apply<ACT>(widen(x[i])));
  }
}

template <typename T>
__device__ __forceinline__ void activate(const Activate<T>& of) {
  switch (of.activation) {
    case GELU_TANH: return activate_by<T, GELU_TANH>(of.x, of.count);
    case GELU_ERF: return activate_by<T, GELU_ERF>(of.x, of.count);
    case QUICK_GELU: return activate_by<T, QUICK_GELU>(of.x, of.count);
    case SILU: return activate_by<T, SILU>(of.x, of.count);
    case RELU: return activate_by<T, RELU>(of.x, of.count);
  }
}

template <typename T>
__device__ __forceinline__ void add_by(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ out,
                                       uint64_t count) {
  constexpr int N = WORD_BYTES / sizeof(T);
  const uint64_t first = first_element(N);
  if (first >= count) return;
  if (count - first >= N && aligned(a) && aligned(b) && aligned(out)) {
    float x[N], y[N];
    load(a + first, x);
    load(b + first, y);
#pragma unroll
    for (int i = 0; i < N; i++) x[i] += y[i];
    store(out + first, x);
  } else {
    for (uint64_t i = first; i < count && i < first + N; i++) out[i] = narrow<T>(widen(a[i]) + widen(b[i]));
  }
}

template <typename T>
__device__ __forceinline__ void add(const Add<T>& of) { add_by(of.a, of.b, of.out, of.count); }

// blockIdx.x and the threads run along an input row, blockIdx.y over the rows of all images: since every row becomes
// two, row r of all becomes rows 2r and 2r + 1 of all, wherever an image ends.
template <typename T, int N>
__device__ __forceinline__ void upsample_by(const T* __restrict__ x, T* __restrict__ out, uint32_t rows,
                                            uint32_t width, uint32_t channels) {
  using V = Vector<T, N>;
  const uint64_t vectors = channels / N, row_vectors = width * vectors;
  const uint64_t i = first_element(1);
  if (i >= row_vectors) return;
  const uint64_t to = i + static_cast<uint32_t>(i) / static_cast<uint32_t>(vectors) * vectors;
  for (uint64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const V v = reinterpret_cast<const V*>(x)[row * row_vectors + i];
    V* first = reinterpret_cast<V*>(out) + row * 4 * row_vectors + to;
    first[0] = v;
    first[vectors] = v;
    first[2 * row_vectors] = v;
    first[2 * row_vectors + vectors] = v;
  }
}

template <typename T>
__device__ __forceinline__ void upsample(const Upsample<T>& of) {
  constexpr int N = WORD_BYTES / sizeof(T);
  if (of.vector == N) {
    upsample_by<T, N>(of.x, of.out, of.rows, of.width, of.channels);
  } else {
    upsample_by<T, 1>(of.x, of.out, of.rows, of.width, of.channels);
  }
}

}  // namespace

KERNELS(activate, Activate, MAP_THREADS)
KERNELS(add, Add, MAP_THREADS)
KERNELS(upsample, Upsample, MAP_THREADS)
