// Concatenates the tokens of image and text for joint attention and RMS-normalises their q and k by head:
// out[b, l, p, h] = x / sqrt(mean(x^2) + eps) * norm for p = q, k and x for v, x [Dh] of token l, image first.
//
//   image  [B, Li, 3, H, Dh]   text [B, Lt, 3, H, Dh]  f32|bf16, tokens at any strides
//   norms  [4, Dh]: image q, image k, text q, text k (without text the first two); null copies q and k as well
//   out    [B, Li + Lt, 3, H, Dh]
//
// Bytes moved, bf16: B * (Li + Lt) * 3 * H * Dh * (2 + 2). B = 2, Li = 4096, Lt = 333, H = 38, Dh = 64 (1024x1024 with
// guidance): 259 MB, 77 us at an H100's 3.35 TB/s.
//
// In and out a token is the same H * Dh numbers three times, so a block takes a token and copies it, and a group of
// lanes takes a head on the way: eight lanes for 64 bf16, one 16-byte word each. 256 threads are 32 heads at a time;
// the 114 heads of a token are four rounds, whose loads are all in flight before the first sum. On the fast path every token
// starts at a multiple of 16 bytes and a head is one word for each of at most 32 lanes. Otherwise elements are read one
// by one, longer heads again in each pass; a lane has the same elements and adds them in the same order.

#include "rows.cuh"

namespace {

constexpr int THREADS = JOINT_QKV_THREADS;
constexpr int ROUNDS = 4;

// How a token is divided among lanes.
struct Heads {
  uint32_t count, normed;  // 3 * H, of which the first 2 * H are q and k
  uint32_t dim;            // Dh
  uint32_t lanes;          // that share a head, a power of two
  float eps;
};

// The sum over a head's lanes, which are neighbours; all lanes of the warp must call it.
__device__ __forceinline__ float lanes_sum(float x, uint32_t lanes) {
  for (uint32_t offset = lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

template <int N>
__device__ __forceinline__ float squares_of(const float (&x)[N]) {
  float squares[N];
#pragma unroll
  for (int i = 0; i < N; i++) squares[i] = square(x[i]);
  return sum_of(squares);
}

// ROUNDS heads for every group of lanes at once; `norms` are q's and k's.
template <typename T>
__device__ __forceinline__ void fast_token(const Heads& heads, T* __restrict__ out, const T* __restrict__ token,
                                           const T* __restrict__ norms) {
  constexpr int N = WIDTH<T>;
  const uint32_t groups = THREADS / heads.lanes, group = threadIdx.x / heads.lanes;
  const uint32_t at = threadIdx.x % heads.lanes * N;
  for (uint32_t start = 0; start < heads.count; start += ROUNDS * groups) {
    Vector<T, N> words[ROUNDS];
#pragma unroll
    for (int round = 0; round < ROUNDS; round++) {
      const uint32_t head = start + round * groups + group;
      if (head < heads.count && at < heads.dim) {
        words[round] = *reinterpret_cast<const Vector<T, N>*>(token + uint64_t(head) * heads.dim + at);
      } else {
#pragma unroll
        for (int i = 0; i < N; i++) words[round].at[i] = narrow<T>(0.0f);
      }
    }
#pragma unroll
    for (int round = 0; round < ROUNDS; round++) {
      const uint32_t head = start + round * groups + group;
      float x[N], norm[N];
#pragma unroll
      for (int i = 0; i < N; i++) x[i] = widen(words[round].at[i]);
      const float mean = lanes_sum(squares_of(x), heads.lanes) / float(heads.dim);
      if (head >= heads.count || at >= heads.dim) continue;
      T* to = out + uint64_t(head) * heads.dim + at;
      if (head < heads.normed) {
        const float inverse = 1.0f / sqrtf(mean + heads.eps);
        load(norms + (head < heads.normed / 2 ? 0 : heads.dim) + at, norm);
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = x[i] * inverse * norm[i];
        store(to, x);
      } else {
        *reinterpret_cast<Vector<T, N>*>(to) = words[round];
      }
    }
  }
}

template <typename T>
__device__ __forceinline__ void slow_token(const Heads& heads, T* __restrict__ out, const T* __restrict__ token,
                                           const T* __restrict__ norms) {
  constexpr int N = WIDTH<T>;
  const uint32_t groups = THREADS / heads.lanes, group = threadIdx.x / heads.lanes;
  const uint32_t lane = threadIdx.x % heads.lanes;
  for (uint32_t start = 0; start < heads.count; start += groups) {
    const uint32_t head = start + group, dim = head < heads.count ? heads.dim : 0;
    const T* from = token + uint64_t(head) * heads.dim;
    T* to = out + uint64_t(head) * heads.dim;
    float squares = 0.0f;
    for (uint32_t at = lane * N; at < dim; at += heads.lanes * N) {
      float x[N];
      load_vector<false>(from, at, dim, x);
      squares += squares_of(x);
    }
    const float mean = lanes_sum(squares, heads.lanes) / float(heads.dim);
    const float inverse = 1.0f / sqrtf(mean + heads.eps);
    const T* norm_row = norms + (head < heads.normed / 2 ? 0 : heads.dim);
    for (uint32_t at = lane * N; at < dim; at += heads.lanes * N) {
      float x[N], norm[N];
      load_vector<false>(from, at, dim, x);
      if (head < heads.normed) {
        load_vector<false>(norm_row, at, dim, norm);
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = x[i] * inverse * norm[i];
      }
      store_vector<false>(to, at, dim, x);
    }
  }
}

template <typename T>
__device__ __forceinline__ void copy_token(bool fast, T* __restrict__ out, const T* __restrict__ token,
                                           uint32_t width) {
  constexpr int N = WIDTH<T>;
  if (fast) {
#pragma unroll 4
    for (uint32_t at = threadIdx.x * N; at < width; at += THREADS * N) {
      *reinterpret_cast<Vector<T, N>*>(out + at) = *reinterpret_cast<const Vector<T, N>*>(token + at);
    }
  } else {
    for (uint32_t at = threadIdx.x; at < width; at += THREADS) out[at] = token[at];
  }
}

// A block processes one token.
template <typename T>
__device__ __forceinline__ void joint_qkv(const JointQkv<T>& of) {
  const Heads heads{3 * of.heads, 2 * of.heads, of.head_dim, of.lanes, of.eps};
  const uint32_t rows = of.image_rows + of.text_rows, batch = blockIdx.x / rows, row = blockIdx.x % rows;
  const bool is_image = row < of.image_rows;
  const T* token = is_image ? of.image + batch * of.image_strides.batch + row * of.image_strides.row
                            : of.text + batch * of.text_strides.batch + (row - of.image_rows) * of.text_strides.row;
  const uint32_t width = heads.count * heads.dim;
  T* out = of.out + uint64_t(blockIdx.x) * width;
  const T* norms = of.norms + (is_image ? 0 : 2 * heads.dim);
  if (of.norms == nullptr) {
    copy_token(of.fast != 0, out, token, width);
  } else if (of.fast) {
    fast_token(heads, out, token, norms);
  } else {
    slow_token(heads, out, token, norms);
  }
}

}  // namespace

KERNELS(joint_qkv, JointQkv, THREADS, 3)
