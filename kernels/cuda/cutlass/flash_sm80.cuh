// FlashAttention-2's forward pass for head dimension 64 on the tensor cores of Ampere and Ada: bf16, all keys.
//
// A block takes 128 queries of a head, a warp 32 of them, and goes over the keys 64 at a time. The queries, the
// scores and the output stay in registers; the probabilities become the left operand of the second product in place,
// since a product's result and a left operand have the same layout. The next keys and values are copied meanwhile.
#pragma once

// flash_sm80_test.cpp has its own.
#ifndef LATENTD_EMULATED
#include "mma_sm80.cuh"
#endif

namespace latentd::flash {

constexpr int HEAD_DIM = 64;
constexpr int QUERIES = 128;
constexpr int KEYS = 64;
constexpr int THREADS = 128;
// 16-row tiles of queries in a warp.
constexpr int TILES = QUERIES / 16 / (THREADS / 32);

struct Params {
  // [B, L, 3, H, 64] bf16
  const uint4* qkv;
  // [B, L, H, 64] bf16
  uint32_t* out;
  int length, heads;
  // Of the scores, for a softmax with base 2.
  float scale;
};

// Rows of 64 elements as 8 pieces of 16 bytes. A piece is stored at its index xor the row's last bits, so that 8
// rows at one index, or 8 indices of one row, use all banks.
template <int rows>
struct Rows {
  uint4 pieces[rows][8];

  __device__ __forceinline__ uint4* at(int row, int piece) { return &pieces[row][piece ^ (row & 7)]; }
};

struct Shared {
  Rows<QUERIES> q;
  Rows<KEYS> k[2], v[2];
};

// Starts copying rows `first ..` of one of a head's three matrices; rows from `length` on become zeros.
template <int rows>
__device__ __forceinline__ void fetch(Rows<rows>& to, const uint4* matrix, int64_t stride, int first, int length) {
#pragma unroll
  for (int i = 0; i < rows * 8 / THREADS; i++) {
    int row = i * (THREADS / 8) + threadIdx.x / 8, piece = threadIdx.x % 8;
    bool valid = first + row < length;
    copy_async(to.at(row, piece), matrix + (valid ? first + row : 0) * stride + piece, valid);
  }
}

// A thread's part of its warp's queries: rows lane / 4 and 8 below it, of each tile.
struct Softmax {
  float max[TILES][2], sum[TILES][2];
};

// Turns scores `[tile][8 keys]` into `exp2(scale * (score - max))`, and scales `out` to the new maximum.
__device__ __forceinline__ void update(Softmax& softmax, float (&scores)[TILES][KEYS / 8][4],
                                       float (&out)[TILES][HEAD_DIM / 8][4], float scale) {
#pragma unroll
  for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float before = softmax.max[tile][half], max = before;
#pragma unroll
      for (int n = 0; n < KEYS / 8; n++) {
        max = fmaxf(max, fmaxf(scores[tile][n][2 * half], scores[tile][n][2 * half + 1]));
      }
      // The four threads of a row.
      max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
      max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
      float decay = exp2f((before - max) * scale), shift = max * scale, sum = 0;
#pragma unroll
      for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; i++) {
          scores[tile][n][i] = exp2f(scores[tile][n][i] * scale - shift);
          sum += scores[tile][n][i];
        }
      }
#pragma unroll
      for (int n = 0; n < HEAD_DIM / 8; n++) {
        out[tile][n][2 * half] *= decay;
        out[tile][n][2 * half + 1] *= decay;
      }
      softmax.max[tile][half] = max;
      softmax.sum[tile][half] = softmax.sum[tile][half] * decay + sum;
    }
  }
}

__device__ __forceinline__ void attend(const Params& p, Shared& shared) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first = blockIdx.x * QUERIES, head = blockIdx.y, batch = blockIdx.z;
  const int64_t stride = int64_t(3) * p.heads * 8;
  const uint4* q = p.qkv + batch * p.length * stride + head * 8;
  const uint4 *k = q + p.heads * 8, *v = k + p.heads * 8;

  fetch(shared.q, q, stride, first, p.length);
  fetch(shared.k[0], k, stride, 0, p.length);
  commit_copies();
  fetch(shared.v[0], v, stride, 0, p.length);
  commit_copies();

  uint32_t queries[TILES][HEAD_DIM / 16][4];
  float out[TILES][HEAD_DIM / 8][4] = {};
  Softmax softmax;
#pragma unroll
  for (int i = 0; i < 2 * TILES; i++) {
    softmax.max[i / 2][i % 2] = -INFINITY;
    softmax.sum[i / 2][i % 2] = 0;
  }

  const int blocks = (p.length + KEYS - 1) / KEYS;
  for (int block = 0; block < blocks; block++) {
    const int now = block % 2, next = (block + 1) * KEYS;
    // The keys have arrived (the values may not have), and all warps are done with the previous block.
    wait_copies<1>();
    __syncthreads();
    if (block == 0) {
#pragma unroll
      for (int i = 0; i < TILES * HEAD_DIM / 16; i++) {
        const int tile = i / (HEAD_DIM / 16), step = i % (HEAD_DIM / 16);
        load_matrices(queries[tile][step],
                      shared.q.at((warp * TILES + tile) * 16 + lane % 16, step * 2 + lane / 16));
      }
    }
    if (next < p.length) fetch(shared.k[1 - now], k, stride, next, p.length);
    commit_copies();

    float scores[TILES][KEYS / 8][4] = {};
#pragma unroll
    for (int step = 0; step < HEAD_DIM / 16; step++) {
#pragma unroll
      for (int n = 0; n < KEYS / 8; n += 2) {
        uint32_t keys[4];
        load_matrices(keys, shared.k[now].at(n * 8 + lane % 8 + lane / 16 * 8, step * 2 + lane / 8 % 2));
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
          multiply_add(scores[tile][n], queries[tile][step], keys[0], keys[1]);
          multiply_add(scores[tile][n + 1], queries[tile][step], keys[2], keys[3]);
        }
      }
    }
    if (next > p.length) {
#pragma unroll
      for (int i = 0; i < KEYS / 8 * 4; i++) {
        const int n = i / 4, key = next - KEYS + n * 8 + lane % 4 * 2 + i % 2;
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
          if (key >= p.length) scores[tile][n][i % 4] = -INFINITY;
        }
      }
    }
    update(softmax, scores, out, p.scale);

    // The values have arrived, and all warps are done with the previous ones.
    wait_copies<1>();
    __syncthreads();
    if (next < p.length) fetch(shared.v[1 - now], v, stride, next, p.length);
    commit_copies();
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++) {
      uint32_t probabilities[TILES][4];
#pragma unroll
      for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float* pair = &scores[tile][2 * step + i / 2][i % 2 * 2];
          probabilities[tile][i] = pack(pair[0], pair[1]);
        }
      }
#pragma unroll
      for (int n = 0; n < HEAD_DIM / 8; n += 2) {
        uint32_t values[4];
        load_matrices_transposed(values, shared.v[now].at(step * 16 + lane % 16, n + lane / 16));
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
          multiply_add(out[tile][n], probabilities[tile], values[0], values[1]);
          multiply_add(out[tile][n + 1], probabilities[tile], values[2], values[3]);
        }
      }
    }
  }

#pragma unroll
  for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float sum = softmax.sum[tile][half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const float share = 1 / sum;
      const int row = first + (warp * TILES + tile) * 16 + half * 8 + lane / 4;
      if (row >= p.length) continue;
      uint32_t* to = p.out + ((int64_t(batch) * p.length + row) * p.heads + head) * (HEAD_DIM / 2) + lane % 4;
#pragma unroll
      for (int n = 0; n < HEAD_DIM / 8; n++) {
        to[n * 4] = pack(out[tile][n][2 * half] * share, out[tile][n][2 * half + 1] * share);
      }
    }
  }
}

}  // namespace latentd::flash
