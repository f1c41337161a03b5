// Softmax attention over all keys for Hopper: bf16, head dimension 64, wgmma and TMA.
//
// The kernel is CUTLASS's (examples/88_hopper_fmha); this file chooses its shape and gives it our layout.
#include "common.cuh"

#include "cutlass/cutlass.h"
#include "cutlass/device_kernel.h"

#include "collective/fmha_fusion.hpp"
#include "kernel/fmha_kernel_builder.hpp"

#include <cmath>
#include <cstring>

namespace latentd::attention_sm90 {

using cute::_1;
using cute::Int;
using cutlass::fmha::kernel::Option;
using cutlass::fmha::kernel::Tag;

using Element = cutlass::bfloat16_t;
constexpr int kHeadDim = 64;

#ifndef LATENTD_QUERIES
#define LATENTD_QUERIES 192
#define LATENTD_KEYS 128
#define LATENTD_GROUPS 3
#define LATENTD_POLICY KernelTmaWarpSpecializedPingpong
#endif

// (row, element, (batch, head))
using Strides = cute::tuple<int, _1, cute::tuple<int, int>>;
using Kernel = cutlass::fmha::kernel::FmhaBuilder<
    Element, float, float, cute::Shape<Int<LATENTD_QUERIES>, Int<LATENTD_KEYS>, Int<kHeadDim>>, Strides, Strides, Strides,
    cutlass::fmha::collective::ResidualFusion, cutlass::gemm::LATENTD_POLICY,
    Option<Tag::kNumMmaWarpGroups, Int<LATENTD_GROUPS>>>::Kernel;

int multiprocessors() {
  static const int count = cutlass::KernelHardwareInfo::query_device_multiprocessor_count();
  return count;
}

/// A tensor map that the driver refused stays zero.
bool encoded(const cute::TmaDescriptor* map) {
  static const cute::TmaDescriptor zero{};
  return std::memcmp(map, &zero, sizeof zero) != 0;
}

}  // namespace latentd::attention_sm90

extern "C" size_t latentd_attention_sm90_workspace(int batch, int length, int heads) {
  // The kernel also stores the logarithm of each row's sum, which nobody reads.
  return sizeof(float) * size_t(batch) * size_t(length) * size_t(heads);
}

extern "C" int latentd_attention_sm90_bf16(const void* qkv, void* out, int batch, int length, int heads,
                                           float scale, void* workspace, size_t workspace_bytes, void* stream) {
  using namespace latentd;
  using namespace latentd::attention_sm90;
  using cute::make_stride;
  if (!fits(batch, length, heads, 3 * kHeadDim)) return kBadSize;
  if (batch == 0 || length == 0 || heads == 0) return kOk;
  if (!aligned(qkv) || !aligned(out)) return kBadPointer;
  if (!(scale > 0) || !std::isfinite(scale)) return kBadScale;
  if (!aligned(workspace) || workspace_bytes < latentd_attention_sm90_workspace(batch, length, heads)) {
    return kBadWorkspace;
  }
  int matrix = heads * kHeadDim;
  const Element* q = static_cast<const Element*>(qkv);
  Strides in = make_stride(3 * matrix, _1{}, make_stride(length * 3 * matrix, kHeadDim));
  Strides result = make_stride(matrix, _1{}, make_stride(length * matrix, kHeadDim));
  auto sums = make_stride(_1{}, make_stride(heads * length, length));
  Kernel::Arguments arguments{
      cute::make_tuple(batch, heads, length, length, kHeadDim),
      {q, in, q + matrix, in, q + 2 * matrix, in},
      {static_cast<Element*>(out), result, static_cast<float*>(workspace), sums},
      {0, multiprocessors()},
  };
  // Not Kernel::can_implement: it refuses lengths that are no multiple of 8, which only a layout with the
  // tokens innermost would need.
  Kernel::Params params = Kernel::to_underlying_arguments(arguments, nullptr);
  // CUTLASS assumes 1 / sqrt(head dimension).
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
