// The kernels' arguments, and the numbers that they share with their launches. The build writes this file from
// src/cuda/arguments/declared.rs. `each` is for the emulator, which looks at every address.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <stddef.h>
#include <stdint.h>

// Threads of a warp.
constexpr int WARP = 32;
// Bytes that a thread moves at once.
constexpr int WORD_BYTES = 16;
// Words of a row that a thread keeps. Of twice as many, and what is computed of them, the registers hold less.
constexpr int SLOTS = 5;
// Warps that share a row, at most.
constexpr int MAX_TEAM_WARPS = 16;
// Threads of a block of joint_qkv.
constexpr int JOINT_QKV_THREADS = 256;
// Queries and threads of a block of attention without tensor cores.
constexpr int ATTENTION_QUERIES = 64;
constexpr int ATTENTION_THREADS = 256;
// Threads of a block of a kernel that maps elements.
constexpr int MAP_THREADS = 256;
// Activations.
constexpr int GELU_TANH = 1;
constexpr int GELU_ERF = 2;
constexpr int QUICK_GELU = 3;
constexpr int SILU = 4;
constexpr int RELU = 5;
// Types of blocks.
constexpr int BLOCKS_Q4_0 = 1;
constexpr int BLOCKS_Q4_1 = 2;
constexpr int BLOCKS_Q5_0 = 3;
constexpr int BLOCKS_Q5_1 = 4;
constexpr int BLOCKS_Q8_0 = 5;
constexpr int BLOCKS_Q2_K = 6;
constexpr int BLOCKS_Q3_K = 7;
constexpr int BLOCKS_Q4_K = 8;
constexpr int BLOCKS_Q5_K = 9;
constexpr int BLOCKS_Q6_K = 10;
// Threads of a block of group_norm.
constexpr int GROUP_NORM_THREADS = 384;

// Elements from one batch element to the next, and from one row to the next.
struct Strides {
  int64_t batch;
  int64_t row;

  template <typename F>
  void each(F f) const {
    f(batch); f(row);
  }
};
static_assert(sizeof(Strides) == 16);
static_assert(offsetof(Strides, batch) == 0 && offsetof(Strides, row) == 8);

// How the rows of a launch are cut (`rows.cuh`).
struct RowSizes {
  // Rows of all batch elements.
  uint32_t total;
  // Rows of one batch element.
  uint32_t rows;
  // Elements of a row.
  uint32_t width;
  // Warps that share a row.
  uint32_t warps;
  // 1 if all rows are whole 16-byte words that fit the registers, else 0.
  uint32_t fast;

  template <typename F>
  void each(F f) const {
    f(total); f(rows); f(width); f(warps); f(fast);
  }
};
static_assert(sizeof(RowSizes) == 20);
static_assert(offsetof(RowSizes, total) == 0 && offsetof(RowSizes, rows) == 4);
static_assert(offsetof(RowSizes, width) == 8 && offsetof(RowSizes, warps) == 12);
static_assert(offsetof(RowSizes, fast) == 16);

template <typename T>
struct LayerNorm {
  // `[rows, D]`
  T* out;
  // `[rows, D]` at any strides over whole rows
  const T* x;
  // `[D]`
  const T* weight;
  // `[D]`
  const T* bias;
  Strides x_strides;
  RowSizes sizes;
  float eps;

  template <typename F>
  void each(F f) const {
    f(out); f(x); f(weight); f(bias); f(x_strides); f(sizes);
    f(eps);
  }
};
static_assert(sizeof(LayerNorm<float>) == 72);
static_assert(offsetof(LayerNorm<float>, out) == 0 && offsetof(LayerNorm<float>, x) == 8);
static_assert(offsetof(LayerNorm<float>, weight) == 16 && offsetof(LayerNorm<float>, bias) == 24);
static_assert(offsetof(LayerNorm<float>, x_strides) == 32 && offsetof(LayerNorm<float>, sizes) == 48);
static_assert(offsetof(LayerNorm<float>, eps) == 68);

template <typename T>
struct RmsNorm {
  // `[rows, D]`
  T* out;
  // `[rows, D]` at any strides over whole rows
  const T* x;
  // `[D]`
  const T* weight;
  Strides x_strides;
  RowSizes sizes;
  float eps;

  template <typename F>
  void each(F f) const {
    f(out); f(x); f(weight); f(x_strides); f(sizes); f(eps);
  }
};
static_assert(sizeof(RmsNorm<float>) == 64);
static_assert(offsetof(RmsNorm<float>, out) == 0 && offsetof(RmsNorm<float>, x) == 8);
static_assert(offsetof(RmsNorm<float>, weight) == 16 && offsetof(RmsNorm<float>, x_strides) == 24);
static_assert(offsetof(RmsNorm<float>, sizes) == 40 && offsetof(RmsNorm<float>, eps) == 60);

template <typename T>
struct QuantizeRowwise {
  // `[rows, D]`
  __nv_fp8_e4m3* values;
  // `[rows]`
  float* scales;
  // `[rows, D]` at any strides over whole rows
  const T* x;
  Strides x_strides;
  RowSizes sizes;

  template <typename F>
  void each(F f) const {
    f(values); f(scales); f(x); f(x_strides); f(sizes);
  }
};
static_assert(sizeof(QuantizeRowwise<float>) == 64);
static_assert(offsetof(QuantizeRowwise<float>, values) == 0 && offsetof(QuantizeRowwise<float>, scales) == 8);
static_assert(offsetof(QuantizeRowwise<float>, x) == 16 && offsetof(QuantizeRowwise<float>, x_strides) == 24);
static_assert(offsetof(QuantizeRowwise<float>, sizes) == 40);

// Where a norm goes: to `out` in the storage's type, or to `values` with `scales`. The rest is null.
template <typename T>
struct Normed {
  // `[B, L, D]`
  T* out;
  // `[B, L, D]`
  __nv_fp8_e4m3* values;
  // `[B, L]`
  float* scales;

  template <typename F>
  void each(F f) const {
    f(out); f(values); f(scales);
  }
};
static_assert(sizeof(Normed<float>) == 24);
static_assert(offsetof(Normed<float>, out) == 0 && offsetof(Normed<float>, values) == 8);
static_assert(offsetof(Normed<float>, scales) == 16);

template <typename T>
struct LayerNormModulate {
  Normed<T> to;
  // `[B, L, D]`, rows at any strides
  const T* x;
  // `[B, D]`
  const T* shift;
  // `[B, D]`
  const T* scale;
  Strides x_strides;
  // Elements from a batch element's modulations to the next's.
  int64_t mods_stride;
  RowSizes sizes;
  float eps;

  template <typename F>
  void each(F f) const {
    f(to); f(x); f(shift); f(scale); f(x_strides); f(mods_stride);
    f(sizes); f(eps);
  }
};
static_assert(sizeof(LayerNormModulate<float>) == 96);
static_assert(offsetof(LayerNormModulate<float>, to) == 0 && offsetof(LayerNormModulate<float>, x) == 24);
static_assert(offsetof(LayerNormModulate<float>, shift) == 32 && offsetof(LayerNormModulate<float>, scale) == 40);
static_assert(offsetof(LayerNormModulate<float>, x_strides) == 48 && offsetof(LayerNormModulate<float>, mods_stride) == 64);
static_assert(offsetof(LayerNormModulate<float>, sizes) == 72 && offsetof(LayerNormModulate<float>, eps) == 92);

template <typename T>
struct GatedAdd {
  // `[B, L, D]`
  T* sum;
  // `[B, L, D]`, rows at any strides
  const T* x;
  // `[B, L, D]`, rows at any strides
  const T* y;
  // `[B, D]`
  const T* gate;
  Strides x_strides;
  Strides y_strides;
  // Elements from a batch element's modulations to the next's.
  int64_t mods_stride;
  RowSizes sizes;

  template <typename F>
  void each(F f) const {
    f(sum); f(x); f(y); f(gate); f(x_strides); f(y_strides);
    f(mods_stride); f(sizes);
  }
};
static_assert(sizeof(GatedAdd<float>) == 96);
static_assert(offsetof(GatedAdd<float>, sum) == 0 && offsetof(GatedAdd<float>, x) == 8);
static_assert(offsetof(GatedAdd<float>, y) == 16 && offsetof(GatedAdd<float>, gate) == 24);
static_assert(offsetof(GatedAdd<float>, x_strides) == 32 && offsetof(GatedAdd<float>, y_strides) == 48);
static_assert(offsetof(GatedAdd<float>, mods_stride) == 64 && offsetof(GatedAdd<float>, sizes) == 72);

template <typename T>
struct GatedAddModulate {
  GatedAdd<T> add;
  Normed<T> to;
  // `[B, D]`
  const T* shift;
  // `[B, D]`
  const T* scale;
  float eps;

  template <typename F>
  void each(F f) const {
    f(add); f(to); f(shift); f(scale); f(eps);
  }
};
static_assert(sizeof(GatedAddModulate<float>) == 144);
static_assert(offsetof(GatedAddModulate<float>, add) == 0 && offsetof(GatedAddModulate<float>, to) == 96);
static_assert(offsetof(GatedAddModulate<float>, shift) == 120 && offsetof(GatedAddModulate<float>, scale) == 128);
static_assert(offsetof(GatedAddModulate<float>, eps) == 136);

template <typename T>
struct JointQkv {
  // `[B, Li + Lt, 3, H, Dh]`
  T* out;
  // `[B, Li, 3, H, Dh]`, tokens at any strides
  const T* image;
  // `[B, Lt, 3, H, Dh]`, tokens at any strides; null if Lt is 0
  const T* text;
  // `[4, Dh]`, or `[2, Dh]` without text; null: q and k are copied
  const T* norms;
  Strides image_strides;
  Strides text_strides;
  uint32_t image_rows;
  uint32_t text_rows;
  uint32_t heads;
  uint32_t head_dim;
  // Lanes that share a head, a power of two.
  uint32_t lanes;
  // 1 if every token and weight is whole 16-byte words, and a head at most one for each lane; else 0.
  uint32_t fast;
  float eps;

  template <typename F>
  void each(F f) const {
    f(out); f(image); f(text); f(norms); f(image_strides); f(text_strides);
    f(image_rows); f(text_rows); f(heads); f(head_dim); f(lanes); f(fast);
    f(eps);
  }
};
static_assert(sizeof(JointQkv<float>) == 96);
static_assert(offsetof(JointQkv<float>, out) == 0 && offsetof(JointQkv<float>, image) == 8);
static_assert(offsetof(JointQkv<float>, text) == 16 && offsetof(JointQkv<float>, norms) == 24);
static_assert(offsetof(JointQkv<float>, image_strides) == 32 && offsetof(JointQkv<float>, text_strides) == 48);
static_assert(offsetof(JointQkv<float>, image_rows) == 64 && offsetof(JointQkv<float>, text_rows) == 68);
static_assert(offsetof(JointQkv<float>, heads) == 72 && offsetof(JointQkv<float>, head_dim) == 76);
static_assert(offsetof(JointQkv<float>, lanes) == 80 && offsetof(JointQkv<float>, fast) == 84);
static_assert(offsetof(JointQkv<float>, eps) == 88);

template <typename T>
struct PortableAttention {
  // `[B, length, 3, heads, head_dim]`
  const T* qkv;
  // `[B, length, heads * head_dim]`
  T* out;
  uint32_t length;
  uint32_t heads;
  uint32_t head_dim;
  // Of the scores.
  float scale;

  template <typename F>
  void each(F f) const {
    f(qkv); f(out); f(length); f(heads); f(head_dim); f(scale);
  }
};
static_assert(sizeof(PortableAttention<float>) == 32);
static_assert(offsetof(PortableAttention<float>, qkv) == 0 && offsetof(PortableAttention<float>, out) == 8);
static_assert(offsetof(PortableAttention<float>, length) == 16 && offsetof(PortableAttention<float>, heads) == 20);
static_assert(offsetof(PortableAttention<float>, head_dim) == 24 && offsetof(PortableAttention<float>, scale) == 28);

template <typename T>
struct Activate {
  // `[count]`, in place
  T* x;
  uint64_t count;
  uint32_t activation;

  template <typename F>
  void each(F f) const {
    f(x); f(count); f(activation);
  }
};
static_assert(sizeof(Activate<float>) == 24);
static_assert(offsetof(Activate<float>, x) == 0 && offsetof(Activate<float>, count) == 8);
static_assert(offsetof(Activate<float>, activation) == 16);

template <typename T>
struct Add {
  // `[count]`
  const T* a;
  // `[count]`
  const T* b;
  // `[count]`
  T* out;
  uint64_t count;

  template <typename F>
  void each(F f) const {
    f(a); f(b); f(out); f(count);
  }
};
static_assert(sizeof(Add<float>) == 32);
static_assert(offsetof(Add<float>, a) == 0 && offsetof(Add<float>, b) == 8);
static_assert(offsetof(Add<float>, out) == 16 && offsetof(Add<float>, count) == 24);

template <typename T>
struct Dequantize {
  // Whole blocks of `count` values, at an even address
  const uint8_t* blocks;
  // `[count]`, whole 16-byte words
  T* values;
  uint64_t count;
  // One of `BLOCKS_`.
  uint32_t kind;

  template <typename F>
  void each(F f) const {
    f(blocks); f(values); f(count); f(kind);
  }
};
static_assert(sizeof(Dequantize<float>) == 32);
static_assert(offsetof(Dequantize<float>, blocks) == 0 && offsetof(Dequantize<float>, values) == 8);
static_assert(offsetof(Dequantize<float>, count) == 16 && offsetof(Dequantize<float>, kind) == 24);

template <typename T>
struct Upsample {
  // `[rows, width, channels]`
  const T* x;
  // `[2 * rows, 2 * width, channels]`
  T* out;
  uint32_t rows;
  uint32_t width;
  uint32_t channels;
  // Elements that move as one word.
  uint32_t vector;

  template <typename F>
  void each(F f) const {
    f(x); f(out); f(rows); f(width); f(channels); f(vector);
  }
};
static_assert(sizeof(Upsample<float>) == 32);
static_assert(offsetof(Upsample<float>, x) == 0 && offsetof(Upsample<float>, out) == 8);
static_assert(offsetof(Upsample<float>, rows) == 16 && offsetof(Upsample<float>, width) == 20);
static_assert(offsetof(Upsample<float>, channels) == 24 && offsetof(Upsample<float>, vector) == 28);

// How an image is cut into blocks; depends on its size and type alone.
struct Cut {
  // Pixels.
  uint32_t area;
  uint32_t channels;
  uint32_t group_channels;
  // Groups of a block: all, if their channels are not more than its threads' vectors.
  uint32_t tile_groups;
  // Chunks of pixels.
  uint32_t splits;
  // Pixels of every chunk but the last.
  uint32_t chunk;
  // Elements that move as one word.
  uint32_t vector;

  template <typename F>
  void each(F f) const {
    f(area); f(channels); f(group_channels); f(tile_groups); f(splits); f(chunk);
    f(vector);
  }
};
static_assert(sizeof(Cut) == 28);
static_assert(offsetof(Cut, area) == 0 && offsetof(Cut, channels) == 4);
static_assert(offsetof(Cut, group_channels) == 8 && offsetof(Cut, tile_groups) == 12);
static_assert(offsetof(Cut, splits) == 16 && offsetof(Cut, chunk) == 20);
static_assert(offsetof(Cut, vector) == 24);

template <typename T>
struct GroupNormStatistics {
  // `[B, area, channels]`
  const T* x;
  // `[B, groups, splits]`: mean, sum of squared differences from it
  float2* partials;
  Cut cut;

  template <typename F>
  void each(F f) const {
    f(x); f(partials); f(cut);
  }
};
static_assert(sizeof(GroupNormStatistics<float>) == 48);
static_assert(offsetof(GroupNormStatistics<float>, x) == 0 && offsetof(GroupNormStatistics<float>, partials) == 8);
static_assert(offsetof(GroupNormStatistics<float>, cut) == 16);

template <typename T>
struct GroupNormApply {
  // `[B, area, channels]`
  const T* x;
  // `[channels]`
  const T* w;
  // `[channels]`
  const T* b;
  // `[B, groups, splits]`
  const float2* partials;
  // `[B, area, channels]`
  T* out;
  Cut cut;
  float eps;
  // 0 or 1
  uint32_t silu;

  template <typename F>
  void each(F f) const {
    f(x); f(w); f(b); f(partials); f(out); f(cut);
    f(eps); f(silu);
  }
};
static_assert(sizeof(GroupNormApply<float>) == 80);
static_assert(offsetof(GroupNormApply<float>, x) == 0 && offsetof(GroupNormApply<float>, w) == 8);
static_assert(offsetof(GroupNormApply<float>, b) == 16 && offsetof(GroupNormApply<float>, partials) == 24);
static_assert(offsetof(GroupNormApply<float>, out) == 32 && offsetof(GroupNormApply<float>, cut) == 40);
static_assert(offsetof(GroupNormApply<float>, eps) == 68 && offsetof(GroupNormApply<float>, silu) == 72);

// `[count, channels, height, width]` in patches of patch x patch.
struct Images {
  uint32_t count;
  uint32_t channels;
  uint32_t height;
  uint32_t width;
  uint32_t patch;

  template <typename F>
  void each(F f) const {
    f(count); f(channels); f(height); f(width); f(patch);
  }
};
static_assert(sizeof(Images) == 20);
static_assert(offsetof(Images, count) == 0 && offsetof(Images, channels) == 4);
static_assert(offsetof(Images, height) == 8 && offsetof(Images, width) == 12);
static_assert(offsetof(Images, patch) == 16);

template <typename T>
struct Patchify {
  // `[count, channels, height, width]`
  const float* x;
  // `[copies, count, length, channels * patch * patch]`
  T* out;
  Images images;
  uint32_t copies;
  // Elements that move as one word.
  uint32_t vector;

  template <typename F>
  void each(F f) const {
    f(x); f(out); f(images); f(copies); f(vector);
  }
};
static_assert(sizeof(Patchify<float>) == 48);
static_assert(offsetof(Patchify<float>, x) == 0 && offsetof(Patchify<float>, out) == 8);
static_assert(offsetof(Patchify<float>, images) == 16 && offsetof(Patchify<float>, copies) == 36);
static_assert(offsetof(Patchify<float>, vector) == 40);

template <typename T>
struct GuidedStep {
  // `[count, channels, height, width]`, in place
  float* x;
  // `[count, length, patch * patch * channels]`, or twice that if guided
  const T* prediction;
  // Guidance, delta, the step's index.
  const float* settings;
  // `[1]`
  uint32_t* first_bad;
  Images images;
  // 0 or 1
  uint32_t guided;
  // Elements that move as one word.
  uint32_t vector;

  template <typename F>
  void each(F f) const {
    f(x); f(prediction); f(settings); f(first_bad); f(images); f(guided);
    f(vector);
  }
};
static_assert(sizeof(GuidedStep<float>) == 64);
static_assert(offsetof(GuidedStep<float>, x) == 0 && offsetof(GuidedStep<float>, prediction) == 8);
static_assert(offsetof(GuidedStep<float>, settings) == 16 && offsetof(GuidedStep<float>, first_bad) == 24);
static_assert(offsetof(GuidedStep<float>, images) == 32 && offsetof(GuidedStep<float>, guided) == 52);
static_assert(offsetof(GuidedStep<float>, vector) == 56);

template <typename T>
struct AddPositions {
  // `[batch, rows, width]`, in place
  T* x;
  // `[rows, width]`
  const T* positions;
  Strides x_strides;
  int64_t positions_stride;
  uint32_t batch;
  uint32_t rows;
  uint32_t width;
  // Elements that move as one word.
  uint32_t vector;

  template <typename F>
  void each(F f) const {
    f(x); f(positions); f(x_strides); f(positions_stride); f(batch); f(rows);
    f(width); f(vector);
  }
};
static_assert(sizeof(AddPositions<float>) == 56);
static_assert(offsetof(AddPositions<float>, x) == 0 && offsetof(AddPositions<float>, positions) == 8);
static_assert(offsetof(AddPositions<float>, x_strides) == 16 && offsetof(AddPositions<float>, positions_stride) == 32);
static_assert(offsetof(AddPositions<float>, batch) == 40 && offsetof(AddPositions<float>, rows) == 44);
static_assert(offsetof(AddPositions<float>, width) == 48 && offsetof(AddPositions<float>, vector) == 52);

// Attention on tensor cores (`cutlass/`).
struct FusedAttention {
  // `[batch, length, 3, heads, head_dim]`
  const __nv_bfloat16* qkv;
  // `[batch, length, heads, head_dim]`
  __nv_bfloat16* out;
  // As large as the kernel's `_workspace` function says, or null if that is 0.
  float* workspace;
  uint64_t workspace_bytes;
  int32_t batch;
  int32_t length;
  int32_t heads;
  int32_t head_dim;
  // Of the scores.
  float scale;

  template <typename F>
  void each(F f) const {
    f(qkv); f(out); f(workspace); f(workspace_bytes); f(batch); f(length);
    f(heads); f(head_dim); f(scale);
  }
};
static_assert(sizeof(FusedAttention) == 56);
static_assert(offsetof(FusedAttention, qkv) == 0 && offsetof(FusedAttention, out) == 8);
static_assert(offsetof(FusedAttention, workspace) == 16 && offsetof(FusedAttention, workspace_bytes) == 24);
static_assert(offsetof(FusedAttention, batch) == 32 && offsetof(FusedAttention, length) == 36);
static_assert(offsetof(FusedAttention, heads) == 40 && offsetof(FusedAttention, head_dim) == 44);
static_assert(offsetof(FusedAttention, scale) == 48);

// A convolution that keeps the size, channels last (`cutlass/`).
struct NhwcConvolution {
  // `[n, h, w, c]`
  const __nv_bfloat16* x;
  // `[k, kernel, kernel, c]`
  const __nv_bfloat16* weight;
  // `[k]`
  const __nv_bfloat16* bias;
  // `[n, h, w, k]`
  __nv_bfloat16* out;
  int32_t n;
  int32_t h;
  int32_t w;
  int32_t c;
  int32_t k;
  // 1 or 3.
  int32_t kernel;

  template <typename F>
  void each(F f) const {
    f(x); f(weight); f(bias); f(out); f(n); f(h);
    f(w); f(c); f(k); f(kernel);
  }
};
static_assert(sizeof(NhwcConvolution) == 56);
static_assert(offsetof(NhwcConvolution, x) == 0 && offsetof(NhwcConvolution, weight) == 8);
static_assert(offsetof(NhwcConvolution, bias) == 16 && offsetof(NhwcConvolution, out) == 24);
static_assert(offsetof(NhwcConvolution, n) == 32 && offsetof(NhwcConvolution, h) == 36);
static_assert(offsetof(NhwcConvolution, w) == 40 && offsetof(NhwcConvolution, c) == 44);
static_assert(offsetof(NhwcConvolution, k) == 48 && offsetof(NhwcConvolution, kernel) == 52);
