// Softmax attention over all keys for Hopper: bf16, head dimension 64, wgmma and TMA.
//
// The kernel is CUTLASS's (examples/88_hopper_fmha); this file chooses its shape and gives it our layout.
// Compile it for sm_90a alone, or with -DLATENTD_NO_SM90 to leave out the kernel but not the functions.
#include "common.cuh"

#include <cmath>
#include <cstddef>
#include <cstring>

#ifndef LATENTD_NO_SM90

#include "cutlass/cutlass.h"
#include "cutlass/device_kernel.h"

#include "collective/fmha_fusion.hpp"
#include "kernel/fmha_kernel_builder.hpp"

namespace latentd::attention_sm90 {

using cute::_1;
using cute::Int;
using cutlass::fmha::kernel::Option;
using cutlass::fmha::kernel::Tag;

using Element = cutlass::bfloat16_t;
constexpr int kHeadDim = 64;

// The choice, and what speaks for it; it was compared by compiling, not by running.
//
// A warpgroup computes 64 queries: products, then the softmax, then products. On its tile of 128 keys the tensor
// cores are busy for 512 cycles and so is the unit for exp2 (16 a cycle), so what counts is that both have work at
// any time: three warpgroups in turn, as in FlashAttention-3, rather than the two that CUTLASS's example runs.
// - 192 x 128, three: 128 registers at launch, 160 while computing, no spill.
// - 192 x 192, three, and 256 x 128, two: the compiler runs out of registers and serializes the products (C7511).
// - 256 x 64, four: half of each tile's products, but all of its maxima, shuffles and barriers.
// With 4429 tokens, 2 x 38 heads and 132 multiprocessors, 192 queries make 1824 tiles = 13.8 waves, 14 x 192 rows;
// 128 make 20.2 waves, 21 x 128 rows: the same time. 256 make 11 x 256, 5 % more. Ping-pong (persistent) over
// cooperative: the next tile's q, k and v arrive while the last one is stored.
// Should three misbehave on the device: 128, 128, 2 is the shape closest to the example's own.
constexpr int kQueries = 192;
constexpr int kKeys = 128;
constexpr int kWarpGroups = 3;
using Schedule = cutlass::gemm::KernelTmaWarpSpecializedPingpong;

/// (row, element, (batch, head))
using Strides = cute::tuple<int, _1, cute::tuple<int, int>>;
/// ResidualFusion masks the keys past the end. DefaultFusion does not: TMA reads them as zeros, which score 0,
/// and exp(0) would count.
using Kernel = cutlass::fmha::kernel::FmhaBuilder<
    Element, float, float, cute::Shape<Int<kQueries>, Int<kKeys>, Int<kHeadDim>>, Strides, Strides, Strides,
    cutlass::fmha::collective::ResidualFusion, Schedule, Option<Tag::kNumMmaWarpGroups, Int<kWarpGroups>>>::Kernel;

int multiprocessors() {
  static const int count = cutlass::KernelHardwareInfo::query_device_multiprocessor_count();
  return count;
}

/// A tensor map that the driver refused stays zero.
bool encoded(const cute::TmaDescriptor* map) {
  static const cute::TmaDescriptor zero{};
  return std::memcmp(map, &zero, sizeof zero) != 0;
}

int run(const Element* qkv, Element* out, int batch, int length, int heads, float scale, float* sums,
        void* stream) {
  using cute::make_stride;
  int matrix = heads * kHeadDim;
  Strides in = make_stride(3 * matrix, _1{}, make_stride(length * 3 * matrix, kHeadDim));
  Strides result = make_stride(matrix, _1{}, make_stride(length * matrix, kHeadDim));
  Kernel::Arguments arguments{
      cute::make_tuple(batch, heads, length, length, kHeadDim),
      {qkv, in, qkv + matrix, in, qkv + 2 * matrix, in},
      {out, result, sums, make_stride(_1{}, make_stride(heads * length, length))},
      {0, multiprocessors()},
  };
  // Not asked: Kernel::can_implement. It refuses lengths that 8 does not divide, but the tokens are an outer
  // dimension of every tensor map, where any length will do.
  Kernel::Params params = Kernel::to_underlying_arguments(arguments, nullptr);
  // It assumes 1 / sqrt(head dimension).
  params.mainloop.scale_softmax = scale;
  params.mainloop.scale_softmax_log2 = scale * 1.44269504088896341f;
  if (!encoded(params.mainloop.tma_load_q.get_tma_descriptor()) ||
      !encoded(params.mainloop.tma_load_k.get_tma_descriptor()) ||
      !encoded(params.mainloop.tma_load_v.get_tma_descriptor()) ||
      !encoded(params.epilogue.epilogue_TMA.tma_store_d.get_tma_descriptor())) {
    return kBadTensorMap;
  }
  return launch<cutlass::device_kernel<Kernel>>(params, Kernel::get_grid_shape(params), Kernel::get_block_shape(),
                                                Kernel::SharedStorageSize, stream);
}

}  // namespace latentd::attention_sm90

#else

namespace latentd::attention_sm90 {

using Element = void;
constexpr int kHeadDim = 64;

int run(const void*, void*, int, int, int, float, float*, void*) {
  return kCudaError + cudaErrorNoKernelImageForDevice;
}

}  // namespace latentd::attention_sm90

#endif

extern "C" size_t latentd_attention_sm90_workspace(int batch, int length, int heads) {
  // The kernel also stores the logarithm of each row's sum, which nobody reads.
  return sizeof(float) * size_t(batch) * size_t(length) * size_t(heads);
}

extern "C" int latentd_attention_sm90_bf16(const void* qkv, void* out, int batch, int length, int heads,
                                           float scale, void* workspace, size_t workspace_bytes, void* stream) {
  using namespace latentd;
  using namespace latentd::attention_sm90;
  if (!fits(batch, length, heads, 3 * kHeadDim)) return kBadSize;
  if (batch == 0 || length == 0 || heads == 0) return kOk;
  if (!aligned(qkv) || !aligned(out)) return kBadPointer;
  if (!(scale > 0) || !std::isfinite(scale)) return kBadScale;
  if (!aligned(workspace) || workspace_bytes < latentd_attention_sm90_workspace(batch, length, heads)) {
    return kBadWorkspace;
  }
  return run(static_cast<const Element*>(qkv), static_cast<Element*>(out), batch, length, heads, scale,
             static_cast<float*>(workspace), stream);
}
