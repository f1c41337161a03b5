// Softmax attention over all keys for every GPU since Ampere: bf16, any head dimension that 8 divides.
//
// Head dimension 64, which is where the time goes, has a kernel of our own (flash_sm80.cuh). The others are CUTLASS's
// (examples/41_fused_multi_head_attention, the memory-efficient attention of xFormers), which is slower: it multiplies
// by Turing's half as long instruction and passes the probabilities through shared memory.
#include "common.cuh"
#include "flash_sm80.cuh"

#include "kernel_forward.h"

#include <cmath>

namespace latentd::attention_sm80 {

using Element = cutlass::bfloat16_t;

/// Queries and keys of a block, and the widest head it takes, as xFormers chooses them for sm_80: 8 warps of 32x32
/// scores.
template <int widest>
using Attention = AttentionKernel<Element, cutlass::arch::Sm80, /*aligned*/ true, 64, 128, widest,
                                  /*dropout*/ false, /*bias*/ false>;
using Narrow = Attention<128>;
/// Walks over the head dimension in pieces; the output between two blocks of keys is f32 in the workspace.
using Wide = Attention<65536>;
static_assert(!Narrow::kNeedsOutputAccumulatorBuffer && Wide::kNeedsOutputAccumulatorBuffer);
// sm_86 and sm_89 have 99 KiB of shared memory for a block, 100 for a multiprocessor.
static_assert(sizeof(Narrow::SharedStorage) <= 99 << 10 && sizeof(Wide::SharedStorage) <= 99 << 10);
static_assert(2 * (sizeof(flash::Shared) + 1024) <= 100 << 10);

/// Two blocks on a multiprocessor: 48 KiB of shared memory each, and 255 registers a thread.
__global__ void __launch_bounds__(flash::kThreads, 2) attend_64(__grid_constant__ const flash::Params params) {
  extern __shared__ uint4 memory[];
  flash::attend(params, *reinterpret_cast<flash::Shared*>(memory));
}

int run_64(const void* qkv, void* out, int batch, int length, int heads, float scale, void* stream) {
  flash::Params params{static_cast<const uint4*>(qkv), static_cast<uint32_t*>(out), length, heads,
                       scale * 1.44269504088896341f};
  dim3 grid((length + flash::kQueries - 1) / flash::kQueries, heads, batch);
  return launch<attend_64>(params, grid, dim3(flash::kThreads), sizeof(flash::Shared), stream);
}

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kNumThreads, Kernel::kMinBlocksPerSm)
    attend(__grid_constant__ const typename Kernel::Params params) {
  typename Kernel::Params block = params;
  if (block.advance_to_block()) {
    Kernel::attention_kernel(block);
  }
}

template <typename Kernel>
int run(const typename Kernel::Params& params, void* stream) {
  return launch<attend<Kernel>>(params, params.getBlocksGrid(), params.getThreadsGrid(),
                                sizeof(typename Kernel::SharedStorage), stream);
}

template <typename Kernel>
typename Kernel::Params describe(const void* qkv, void* out, int batch, int length, int heads, int head_dim,
                                 float scale) {
  int matrix = heads * head_dim;
  // The kernel reads through these; its parameters are only not const.
  Element* q = static_cast<Element*>(const_cast<void*>(qkv));
  typename Kernel::Params params;
  params.query_ptr = q;
  params.key_ptr = q + matrix;
  params.value_ptr = q + 2 * matrix;
  params.output_ptr = static_cast<Element*>(out);
  params.scale = scale;
  params.head_dim = params.head_dim_value = head_dim;
  params.num_queries = params.num_keys = length;
  params.num_batches = batch;
  params.num_heads = heads;
  params.q_strideM = params.k_strideM = params.v_strideM = 3 * matrix;
  params.q_strideH = params.k_strideH = params.v_strideH = head_dim;
  params.q_strideB = params.k_strideB = params.v_strideB = int64_t(length) * 3 * matrix;
  params.o_strideM = matrix;
  return params;
}

}  // namespace latentd::attention_sm80

extern "C" size_t latentd_attention_sm80_workspace(int batch, int length, int heads, int head_dim) {
  return head_dim <= 128 ? 0 : sizeof(float) * size_t(batch) * size_t(length) * size_t(heads) * size_t(head_dim);
}

extern "C" int latentd_attention_sm80_bf16(const void* qkv, void* out, int batch, int length, int heads,
                                           int head_dim, float scale, void* workspace, size_t workspace_bytes,
                                           void* stream) {
  using namespace latentd;
  using namespace latentd::attention_sm80;
  if (head_dim <= 0 || head_dim % 8 != 0 || !fits(batch, length, heads, head_dim, 3)) return kBadSize;
  if (batch == 0 || length == 0 || heads == 0) return kOk;
  if (batch > 65535 || heads > 65535) return kBadSize;
  if (!aligned(qkv) || !aligned(out)) return kBadPointer;
  if (!(scale > 0) || !std::isfinite(scale)) return kBadScale;
  if (head_dim == 64) {
    return run_64(qkv, out, batch, length, heads, scale, stream);
  }
  if (head_dim <= 128) {
    return run<Narrow>(describe<Narrow>(qkv, out, batch, length, heads, head_dim, scale), stream);
  }
  if (!aligned(workspace) ||
      workspace_bytes < latentd_attention_sm80_workspace(batch, length, heads, head_dim)) {
    return kBadWorkspace;
  }
  auto params = describe<Wide>(qkv, out, batch, length, heads, head_dim, scale);
  params.output_accum_ptr = static_cast<float*>(workspace);
  return run<Wide>(params, stream);
}
