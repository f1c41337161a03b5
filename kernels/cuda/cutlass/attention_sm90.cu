// Softmax attention over all keys for Hopper: bf16, head dimension 64, wgmma and TMA.
//
// The kernel is CUTLASS's (examples/88_hopper_fmha); this file chooses its shape and gives it our layout.
// Compile it only for sm_90a, or with -DLATENTD_NO_SM90 to leave out the kernel but not the functions.
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
constexpr int HEAD_DIM = 64;

// The choice and its reasons; the shapes were compared by compiling, not by running.
//
// A warpgroup computes 64 queries: products, then the softmax, then products. On its tile of 128 keys the tensor
// cores are busy for 512 cycles and so is the unit for exp2 (16 a cycle), so both should have work at
// any time: three alternating warpgroups, as in FlashAttention-3, rather than the two that CUTLASS's example runs.
// - 192 x 128, three: 128 registers at launch, 160 while computing, no spill.
// - 192 x 192, three, and 256 x 128, two: the compiler runs out of registers and serializes the products (C7511).
// - 256 x 64, four: half of each tile's products, but all of its maxima, shuffles and barriers.
// With 4429 tokens, 2 x 38 heads and 132 multiprocessors, 192 queries make 1824 tiles = 13.8 waves, 14 x 192 rows;
// 128 make 20.2 waves, 21 x 128 rows: the same time. 256 make 11 x 256, 5 % more. Ping-pong (persistent) over
// cooperative: the next tile's q, k and v arrive while the last one is stored.
// If three fail on the device: 128, 128, 2 is the shape closest to the example's own.
constexpr int QUERIES = 192;
constexpr int KEYS = 128;
constexpr int WARP_GROUPS = 3;
using Schedule = cutlass::gemm::KernelTmaWarpSpecializedPingpong;

// (row, element, (batch, head))
using Strides = cute::tuple<int, _1, cute::tuple<int, int>>;
// ResidualFusion masks the keys past the end. DefaultFusion does not: TMA reads them as zeros, which score 0,
// and exp(0) would count.
using Kernel = cutlass::fmha::kernel::FmhaBuilder<
    Element, float, float, cute::Shape<Int<QUERIES>, Int<KEYS>, Int<HEAD_DIM>>, Strides, Strides, Strides,
    cutlass::fmha::collective::ResidualFusion, Schedule, Option<Tag::kNumMmaWarpGroups, Int<WARP_GROUPS>>>::Kernel;

int multiprocessors() {
  static const int count = cutlass::KernelHardwareInfo::query_device_multiprocessor_count();
  return count;
}

// A tensor map that the driver rejected stays zero.
bool encoded(const cute::TmaDescriptor* map) {
  static const cute::TmaDescriptor zero{};
  return std::memcmp(map, &zero, sizeof zero) != 0;
}

int run(const FusedAttention& of, void* stream) {
  using cute::make_stride;
  const Element* qkv = reinterpret_cast<const Element*>(of.qkv);
  int matrix = of.heads * HEAD_DIM;
  Strides in = make_stride(3 * matrix, _1{}, make_stride(of.length * 3 * matrix, HEAD_DIM));
  Strides result = make_stride(matrix, _1{}, make_stride(of.length * matrix, HEAD_DIM));
  Kernel::Arguments arguments{
      cute::make_tuple(of.batch, of.heads, of.length, of.length, HEAD_DIM),
      {qkv, in, qkv + matrix, in, qkv + 2 * matrix, in},
      {reinterpret_cast<Element*>(of.out), result, of.workspace, make_stride(_1{}, make_stride(of.heads * of.length, of.length))},
      {0, multiprocessors()},
  };
  // Kernel::can_implement is not called. It rejects lengths that are not divisible by 8, but the tokens are an outer
  // dimension of every tensor map, where any length is valid.
  Kernel::Params params = Kernel::to_underlying_arguments(arguments, nullptr);
  // It assumes 1 / sqrt(head dimension).
  params.mainloop.scale_softmax = of.scale;
  params.mainloop.scale_softmax_log2 = of.scale * LOG2_E;
  if (!encoded(params.mainloop.tma_load_q.get_tma_descriptor()) ||
      !encoded(params.mainloop.tma_load_k.get_tma_descriptor()) ||
      !encoded(params.mainloop.tma_load_v.get_tma_descriptor()) ||
      !encoded(params.epilogue.epilogue_TMA.tma_store_d.get_tma_descriptor())) {
    return BAD_TENSOR_MAP;
  }
  return launch<cutlass::device_kernel<Kernel>>(params, Kernel::get_grid_shape(params), Kernel::get_block_shape(),
                                                Kernel::SharedStorageSize, stream);
}

}  // namespace latentd::attention_sm90

#else

namespace latentd::attention_sm90 {

constexpr int HEAD_DIM = 64;

int run(const FusedAttention&, void*) { return CUDA_ERROR + cudaErrorNoKernelImageForDevice; }

}  // namespace latentd::attention_sm90

#endif

extern "C" uint64_t latentd_attention_sm90_workspace(const FusedAttention* of) {
  // The kernel also stores the logarithm of each row's sum, which is not used.
  return sizeof(float) * uint64_t(of->batch) * uint64_t(of->length) * uint64_t(of->heads);
}

extern "C" int latentd_attention_sm90_bf16(const FusedAttention* arguments, void* stream) {
  using namespace latentd;
  using namespace latentd::attention_sm90;
  const FusedAttention& of = *arguments;
  if (of.head_dim != HEAD_DIM || !fits(of.batch, of.length, of.heads, 3 * HEAD_DIM)) return BAD_SIZE;
  if (of.batch == 0 || of.length == 0 || of.heads == 0) return OK;
  if (!aligned(of.qkv) || !aligned(of.out)) return BAD_POINTER;
  if (!(of.scale > 0) || !std::isfinite(of.scale)) return BAD_SCALE;
  if (!aligned(of.workspace) || of.workspace_bytes < latentd_attention_sm90_workspace(&of)) return BAD_WORKSPACE;
  return run(of, stream);
}
