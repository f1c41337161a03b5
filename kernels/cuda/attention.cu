// Softmax attention without tensor cores, for f32 and for cards and head sizes that the tensor-core kernels do not support.
//
//   out = softmax(q k^T * Dh^-0.5) v for each head      qkv [B, L, 3, H, Dh] T, out [B, L, H * Dh] T; f32 or bf16
//
// FLOPs: 4 B H L^2 Dh; for [1, 4429, 3, 38, 64] 191 G, 2.9 ms at the 67 TFLOP/s of an H100's f32 units, which a kernel
// that reads its operands from shared memory cannot reach. Memory traffic (40 MB of q, k, v in f32 read L / 64 times, from
// the L2 cache) takes less time.
//
// A block takes 64 queries of a head and goes over the keys 64 at a time, keeping each row's running maximum and sum
// (online softmax), so no L x L matrix exists. 256 threads as 16 x 16: a thread has 4 x 4 scores and 4 x 4 outputs of
// every 64 of the head's elements, so each 16-byte read of shared memory feeds 8 multiply-adds. Head sizes above 64 go
// in chunks of 64. Two tiles of 64 x 64 are enough: q then v in one, k then the probabilities in the other; q is read
// again for every block of keys, from the first-level cache. Rows are 68 floats long: 16-byte reads of eight neighbouring
// rows then fall into different banks.
#include "common.cuh"

namespace {

constexpr int SIDE = ATTENTION_QUERIES, THREADS = ATTENTION_THREADS;
constexpr int ROW = SIDE + 4, EACH = 4, LANES = SIDE / EACH;

struct Tile {
  alignas(16) float at[SIDE][ROW];
};

// Loads 64 rows of a part of qkv from row `first`, elements `from` to `from + 64`, with zeros past the end.
template <typename T>
__device__ __forceinline__ void fetch(Tile& tile, const T* __restrict__ part, uint64_t stride, uint32_t first, uint32_t length,
                                      uint32_t from, uint32_t head_dim, bool vectors) {
  constexpr int N = WORD_BYTES / sizeof(T);
  if (vectors) {
#pragma unroll
    for (int n = 0; n < SIDE * SIDE / N / THREADS; n++) {
      const uint32_t i = n * THREADS + threadIdx.x;
      const uint32_t row = i / (SIDE / N), column = i % (SIDE / N) * N;
      float v[N] = {};
      if (first + row < length && from + column < head_dim) load(part + (first + row) * stride + from + column, v);
#pragma unroll
      for (int k = 0; k < N; k++) tile.at[row][column + k] = v[k];
    }
  } else {
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < SIDE * SIDE; i += THREADS) {
      const uint32_t row = i / SIDE, column = i % SIDE;
      const bool inside = first + row < length && from + column < head_dim;
      tile.at[row][column] = inside ? widen(part[(first + row) * stride + from + column]) : 0.0f;
    }
  }
}

// Reductions over the 16 threads (half a warp) that share a row.
__device__ __forceinline__ float row_sum(float x) {
#pragma unroll
  for (int offset = LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

__device__ __forceinline__ float row_max(float x) {
#pragma unroll
  for (int offset = LANES / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

// A thread's rows are y * 4 + i. Its scores' keys are x + 16 * j, its outputs' elements x * 4 + j of each chunk.
template <int CHUNKS, typename T>
__device__ __forceinline__ void attend(const T* __restrict__ qkv, T* __restrict__ out, uint32_t length, uint32_t heads,
                                       uint32_t head_dim, float scale) {
  __shared__ Tile left, right;
  constexpr int N = WORD_BYTES / sizeof(T);
  const uint32_t blocks = (length + SIDE - 1) / SIDE;
  const uint32_t first = blockIdx.x % blocks * SIDE, head = blockIdx.x / blocks % heads;
  const uint64_t batch = blockIdx.x / blocks / heads;
  const uint64_t width = static_cast<uint64_t>(heads) * head_dim, stride = 3 * width;
  const T* q = qkv + batch * length * stride + static_cast<uint64_t>(head) * head_dim;
  const T *k = q + width, *v = k + width;
  const bool vectors = head_dim % N == 0 && reinterpret_cast<uintptr_t>(qkv) % WORD_BYTES == 0;
  const int x = threadIdx.x % LANES, y = threadIdx.x / LANES;

  float sums[CHUNKS][EACH][EACH] = {}, highest[EACH], total[EACH] = {};
#pragma unroll
  for (int i = 0; i < EACH; i++) highest[i] = -INFINITY;

  for (uint32_t keys = 0; keys < length; keys += SIDE) {
    float scores[EACH][EACH] = {};
#pragma unroll 1
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
      __syncthreads();
      fetch(left, q, stride, first, length, chunk * SIDE, head_dim, vectors);
      fetch(right, k, stride, keys, length, chunk * SIDE, head_dim, vectors);
      __syncthreads();
#pragma unroll 1
      for (int d = 0; d < SIDE; d += 4) {
        float a[EACH][4], b[EACH][4];
#pragma unroll
        for (int i = 0; i < EACH; i++) load(&left.at[y * EACH + i][d], a[i]);
#pragma unroll
        for (int j = 0; j < EACH; j++) load(&right.at[x + LANES * j][d], b[j]);
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
          for (int j = 0; j < EACH; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) scores[i][j] += a[i][e] * b[j][e];
      }
    }
    __syncthreads();  // the probabilities overwrite k

#pragma unroll
    for (int i = 0; i < EACH; i++) {
      float most = highest[i];
#pragma unroll
      for (int j = 0; j < EACH; j++) {
        scores[i][j] = keys + x + LANES * j < length ? scores[i][j] * scale : -INFINITY;
        most = fmaxf(most, scores[i][j]);
      }
      most = row_max(most);
      // A row whose scores have all been -inf so far has accumulated nothing yet, not even a NaN.
      const float base = most == -INFINITY ? 0.0f : most;
      const float shrink = expf(highest[i] - base);
      highest[i] = most;
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < EACH; j++) {
        const float p = expf(scores[i][j] - base);
        right.at[y * EACH + i][x + LANES * j] = p;
        sum += p;
      }
      total[i] = total[i] * shrink + row_sum(sum);
#pragma unroll
      for (int chunk = 0; chunk < CHUNKS; chunk++)
#pragma unroll
        for (int j = 0; j < EACH; j++) sums[chunk][i][j] *= shrink;
    }

#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
      if (chunk > 0) __syncthreads();
      fetch(left, v, stride, keys, length, chunk * SIDE, head_dim, vectors);
      __syncthreads();
#pragma unroll 1
      for (int key = 0; key < SIDE; key += 4) {
        float p[EACH][4], b[4][EACH];
#pragma unroll
        for (int i = 0; i < EACH; i++) load(&right.at[y * EACH + i][key], p[i]);
#pragma unroll
        for (int e = 0; e < 4; e++) load(&left.at[key + e][x * EACH], b[e]);
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
          for (int j = 0; j < EACH; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sums[chunk][i][j] += p[i][e] * b[e][j];
      }
    }
  }

#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const uint32_t row = first + y * EACH + i;
    if (row >= length) continue;
    T* to = out + (batch * length + row) * width + static_cast<uint64_t>(head) * head_dim;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++)
#pragma unroll
      for (int j = 0; j < EACH; j++) {
        const uint32_t column = chunk * SIDE + x * EACH + j;
        if (column < head_dim) to[column] = narrow<T>(sums[chunk][i][j] / total[i]);
      }
  }
}

template <typename T>
__device__ __forceinline__ void attention_64(const PortableAttention<T>& of) {
  attend<1>(of.qkv, of.out, of.length, of.heads, of.head_dim, of.scale);
}

template <typename T>
__device__ __forceinline__ void attention_128(const PortableAttention<T>& of) {
  attend<2>(of.qkv, of.out, of.length, of.heads, of.head_dim, of.scale);
}

template <typename T>
__device__ __forceinline__ void attention_256(const PortableAttention<T>& of) {
  attend<4>(of.qkv, of.out, of.length, of.heads, of.head_dim, of.scale);
}

template <typename T>
__device__ __forceinline__ void attention_512(const PortableAttention<T>& of) {
  attend<8>(of.qkv, of.out, of.length, of.heads, of.head_dim, of.scale);
}

}  // namespace

KERNELS(attention_64, PortableAttention, THREADS)
KERNELS(attention_128, PortableAttention, THREADS)
KERNELS(attention_256, PortableAttention, THREADS)
KERNELS(attention_512, PortableAttention, THREADS)
