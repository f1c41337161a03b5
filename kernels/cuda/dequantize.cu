// The blocks of GGUF files to f32 or bf16: values as llama.cpp's ggml-quants.c has them, whose operations and their order
// are the processor's (candle-core's k_quants.rs), so that both give the same bits. Layouts of blocks: ggml-common.h.
//
//   blocks  [count / VALUES] of BYTES each, addresses even;  values [count] f32|bf16
//
// Bytes moved, q8_0 to bf16: count * (34 / 32 + 2). An MLP matrix of SD3.5 Large, 9728 x 2432: 72 MB, 22 us at an H100's
// 3.35 TB/s.
//
// A thread makes eight values that lie side by side. In every type they share their scales, and a multiple of eight is
// where a part of a block begins, so that their bits come from eight neighbouring bytes.
#include "common.cuh"

#include <cuda_fp16.h>

namespace {

constexpr int GROUP = 8;

__device__ __forceinline__ float half_at(const uint8_t* at) {
  return __half2float(__ushort_as_half(*reinterpret_cast<const uint16_t*>(at)));
}

// Eight bytes at an even address, the first in the lowest bits.
__device__ __forceinline__ uint64_t eight_at(const uint8_t* at) {
  const uint16_t* words = reinterpret_cast<const uint16_t*>(at);
  return uint64_t(words[0]) | uint64_t(words[1]) << 16 | uint64_t(words[2]) << 32 | uint64_t(words[3]) << 48;
}

__device__ __forceinline__ uint32_t byte_of(uint64_t bytes, int i) { return uint32_t(bytes >> 8 * i) & 0xff; }

// Rounded after the product and after the sum, as on the processor.
__device__ __forceinline__ float scaled(float scale, int32_t x) { return __fmul_rn(scale, float(x)); }
__device__ __forceinline__ float shifted(float scale, int32_t x, float shift) {
  return __fadd_rn(scaled(scale, x), shift);
}

// 32 values of 4 bits, or 5 with the highest in bytes of their own; values from 16 on are the upper halves of the bytes. With a
// minimum they begin there, without one half of them are below zero.
template <bool HIGH, bool LEAST>
struct Nibbles {
  static constexpr int HEADER = 2 + (LEAST ? 2 : 0), LOW = HEADER + (HIGH ? 4 : 0);
  static constexpr uint32_t VALUES = 32, BYTES = LOW + VALUES / 2;
  static __device__ __forceinline__ void get(const uint8_t* block, uint32_t first, float (&v)[GROUP]) {
    const uint64_t low = eight_at(block + LOW + first % 16);
    const uint32_t high = HIGH ? block[HEADER + first / 8] : 0;
    const float scale = half_at(block), least = LEAST ? half_at(block + 2) : 0.0f;
#pragma unroll
    for (int i = 0; i < GROUP; i++) {
      const int32_t q = (byte_of(low, i) >> (first < 16 ? 0 : 4) & 0xf) | (high >> i & 1) << 4;
      v[i] = LEAST ? shifted(scale, q, least) : scaled(scale, q - (HIGH ? 16 : 8));
    }
  }
};

using Q4_0 = Nibbles<false, false>;
using Q4_1 = Nibbles<false, true>;
using Q5_0 = Nibbles<true, false>;
using Q5_1 = Nibbles<true, true>;

struct Q8_0 {
  static constexpr uint32_t VALUES = 32, BYTES = 34;
  static __device__ __forceinline__ void get(const uint8_t* block, uint32_t first, float (&v)[GROUP]) {
    const uint64_t q = eight_at(block + 2 + first);
#pragma unroll
    for (int i = 0; i < GROUP; i++) v[i] = scaled(half_at(block), int8_t(byte_of(q, i)));
  }
};

// Where a group is in the two bits of Q2_K and Q3_K: 32 bytes have four times 32 values, one behind the other.
struct Pairs {
  uint32_t byte, shift;
  __device__ __forceinline__ explicit Pairs(uint32_t first)
      : byte(first / 128 * 32 + first % 32), shift(first % 128 / 32 * 2) {}
};

struct Q2_K {
  static constexpr uint32_t VALUES = 256, BYTES = 84;
  static __device__ __forceinline__ void get(const uint8_t* block, uint32_t first, float (&v)[GROUP]) {
    const Pairs pairs(first);
    const uint64_t q = eight_at(block + 16 + pairs.byte);
    const uint32_t scales = block[first / 16];
    const float scale = scaled(half_at(block + 80), scales & 0xf), least = scaled(half_at(block + 82), scales >> 4);
#pragma unroll
    for (int i = 0; i < GROUP; i++) v[i] = shifted(scale, byte_of(q, i) >> pairs.shift & 3, -least);
  }
};

struct Q3_K {
  static constexpr uint32_t VALUES = 256, BYTES = 110;
  static __device__ __forceinline__ void get(const uint8_t* block, uint32_t first, float (&v)[GROUP]) {
    const Pairs pairs(first);
    const uint64_t high = eight_at(block + first % 32), q = eight_at(block + 32 + pairs.byte);
    // Sixteen scales of 6 bits: four in bytes 0 to 7, two in bytes 8 to 11.
    const uint8_t* scales = block + 96;
    const uint32_t of = first / 16;
    const uint32_t low_bits = scales[of % 8] >> (of < 8 ? 0 : 4) & 0xf, high_bits = scales[8 + of % 4] >> of / 4 * 2 & 3;
    const float scale = scaled(half_at(block + 108), int32_t(low_bits | high_bits << 4) - 32);
#pragma unroll
    for (int i = 0; i < GROUP; i++) {
      const int32_t below = byte_of(high, i) >> first / 32 & 1 ? 0 : 4;
      v[i] = scaled(scale, int32_t(byte_of(q, i) >> pairs.shift & 3) - below);
    }
  }
};

// Of part `j` of eight: a scale and a minimum of 6 bits each, in 12 bytes.
__device__ __forceinline__ void scale_and_least(const uint8_t* block, uint32_t j, float& scale, float& least) {
  const uint8_t* at = block + 4;
  const uint32_t s = j < 4 ? at[j] & 63 : at[j + 4] & 0xf | at[j - 4] >> 6 << 4;
  const uint32_t m = j < 4 ? at[j + 4] & 63 : at[j + 4] >> 4 | at[j] >> 6 << 4;
  scale = scaled(half_at(block), s);
  least = scaled(half_at(block + 2), m);
}

struct Q4_K {
  static constexpr uint32_t VALUES = 256, BYTES = 144;
  static __device__ __forceinline__ void get(const uint8_t* block, uint32_t first, float (&v)[GROUP]) {
    const uint32_t part = first / 32;
    float scale, least;
    scale_and_least(block, part, scale, least);
    const uint64_t q = eight_at(block + 16 + part / 2 * 32 + first % 32);
#pragma unroll
    for (int i = 0; i < GROUP; i++) v[i] = shifted(scale, byte_of(q, i) >> part % 2 * 4 & 0xf, -least);
  }
};

struct Q5_K {
  static constexpr uint32_t VALUES = 256, BYTES = 176;
  static __device__ __forceinline__ void get(const uint8_t* block, uint32_t first, float (&v)[GROUP]) {
    const uint32_t part = first / 32;
    float scale, least;
    scale_and_least(block, part, scale, least);
    const uint64_t high = eight_at(block + 16 + first % 32), q = eight_at(block + 48 + part / 2 * 32 + first % 32);
#pragma unroll
    for (int i = 0; i < GROUP; i++) {
      v[i] = shifted(scale, byte_of(q, i) >> part % 2 * 4 & 0xf | (byte_of(high, i) >> part & 1) << 4, -least);
    }
  }
};

struct Q6_K {
  static constexpr uint32_t VALUES = 256, BYTES = 210;
  static __device__ __forceinline__ void get(const uint8_t* block, uint32_t first, float (&v)[GROUP]) {
    const uint32_t half = first / 128, quarter = first % 128 / 32;
    const uint64_t low = eight_at(block + half * 64 + quarter % 2 * 32 + first % 32);
    const uint64_t high = eight_at(block + 128 + half * 32 + first % 32);
    const float scale = scaled(half_at(block + 208), int8_t(block[192 + first / 16]));
#pragma unroll
    for (int i = 0; i < GROUP; i++) {
      const uint32_t q = byte_of(low, i) >> quarter / 2 * 4 & 0xf | (byte_of(high, i) >> quarter * 2 & 3) << 4;
      v[i] = scaled(scale, int32_t(q) - 32);
    }
  }
};

template <typename T>
__device__ __forceinline__ void store_group(T* to, const float (&v)[GROUP]) {
  constexpr int N = WORD_BYTES / sizeof(T);
#pragma unroll
  for (int first = 0; first < GROUP; first += N) {
    float word[N];
#pragma unroll
    for (int i = 0; i < N; i++) word[i] = v[first + i];
    store(to + first, word);
  }
}

template <typename Block, typename T>
__device__ __forceinline__ void dequantize_by(const Dequantize<T>& of, uint64_t first) {
  float v[GROUP];
  Block::get(of.blocks + first / Block::VALUES * Block::BYTES, uint32_t(first % Block::VALUES), v);
  store_group(of.values + first, v);
}

// One kernel for all types, since twenty of them would be 0.6 MB of code.
template <typename T>
__device__ __forceinline__ void dequantize(const Dequantize<T>& of) {
  const uint64_t first = (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x) * GROUP;
  if (first >= of.count) return;
  switch (of.kind) {
    case BLOCKS_Q4_0: return dequantize_by<Q4_0>(of, first);
    case BLOCKS_Q4_1: return dequantize_by<Q4_1>(of, first);
    case BLOCKS_Q5_0: return dequantize_by<Q5_0>(of, first);
    case BLOCKS_Q5_1: return dequantize_by<Q5_1>(of, first);
    case BLOCKS_Q8_0: return dequantize_by<Q8_0>(of, first);
    case BLOCKS_Q2_K: return dequantize_by<Q2_K>(of, first);
    case BLOCKS_Q3_K: return dequantize_by<Q3_K>(of, first);
    case BLOCKS_Q4_K: return dequantize_by<Q4_K>(of, first);
    case BLOCKS_Q5_K: return dequantize_by<Q5_K>(of, first);
    case BLOCKS_Q6_K: return dequantize_by<Q6_K>(of, first);
  }
}

}  // namespace

KERNELS(dequantize, Dequantize, MAP_THREADS)
