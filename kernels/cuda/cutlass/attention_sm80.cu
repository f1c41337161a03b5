// Softmax attention over all keys for every GPU since Ampere: bf16, any head dimension divisible by 8.
//
// Head dimension 64, that of SD3.5, has a kernel of our own (flash_sm80.cuh). The others are CUTLASS's
// (examples/41_fused_multi_head_attention, the memory-efficient attention of xFormers), which is slower: it multiplies
// with Turing's instruction of half the size and passes the probabilities through shared memory.
#include "common.cuh"
#include "flash_sm80.cuh"

#include "kernel_forward.h"

#include <cmath>

namespace latentd::attention_sm80 {

using Element = cutlass::bfloat16_t;

// Queries and keys of a block, and its largest head size, as in xFormers for sm_80: 8 warps of 32x32 scores.
template <int widest>
using Attention = AttentionKernel<Element, cutlass::arch::Sm80, /*aligned*/ true, 64, 128, widest,
                                  /*dropout*/ false, /*bias*/ false>;
using Narrow = Attention<128>;
// Processes the head dimension in pieces; the output between two blocks of keys is f32 in the workspace.
using Wide = Attention<65536>;
static_assert(!Narrow::kNeedsOutputAccumulatorBuffer && Wide::kNeedsOutputAccumulatorBuffer);
// sm_86 and sm_89 have 99 KiB of shared memory for a block, 100 for a multiprocessor.
static_assert(sizeof(Narrow::SharedStorage) <= 99 << 10 && sizeof(Wide::SharedStorage) <= 99 << 10);
static_assert(2 * (sizeof(flash::Shared) + 1024) <= 100 << 10);

// Two blocks on a multiprocessor: 48 KiB of shared memory each, and 255 registers a thread.
__global__ void __launch_bounds__(flash::THREADS, 2) attend_64(__grid_constant__ const flash::Params params) {
  extern __shared__ uint4 memory[];
  flash::attend(params, *reinterpret_cast<flash::Shared*>(memory));
}

int run_64(const FusedAttention& of, void* stream) {
  flash::Params params{reinterpret_cast<const uint4*>(of.qkv), reinterpret_cast<uint32_t*>(of.out), of.length, of.heads,
                       of.scale * LOG2_E};
  dim3 grid((of.length + flash::QUERIES - 1) / flash::QUERIES, of.heads, of.batch);
  return launch<attend_64>(params, grid, dim3(flash::THREADS), sizeof(flash::Shared), stream);
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
typename Kernel::Params describe(const FusedAttention& of) {
  int matrix = of.heads * of.head_dim;
  // The kernel only reads through these, though its parameters are not const.
  Element* q = reinterpret_cast<Element*>(const_cast<__nv_bfloat16*>(of.qkv));
  typename Kernel::Params params;
  params.query_ptr = q;
  params.key_ptr = q + matrix;
  params.value_ptr = q + 2 * matrix;
  params.output_ptr = reinterpret_cast<Element*>(of.out);
  params.scale = of.scale;
  params.head_dim = params.head_dim_value = of.head_dim;
  params.num_queries = params.num_keys = of.length;
  params.num_batches = of.batch;
  params.num_heads = of.heads;
  params.q_strideM = params.k_strideM = params.v_strideM = 3 * matrix;
  params.q_strideH = params.k_strideH = params.v_strideH = of.head_dim;
  params.q_strideB = params.k_strideB = params.v_strideB = int64_t(of.length) * 3 * matrix;
  params.o_strideM = matrix;
  return params;
}

}  // namespace latentd::attention_sm80

extern "C" uint64_t latentd_attention_sm80_workspace(const FusedAttention* of) {
  if (of->head_dim <= 128) return 0;
  return sizeof(float) * uint64_t(of->batch) * uint64_t(of->length) * uint64_t(of->heads) * uint64_t(of->head_dim);
}

extern "C" int latentd_attention_sm80_bf16(const FusedAttention* arguments, void* stream) {
  using namespace latentd;
  using namespace latentd::attention_sm80;
  const FusedAttention& of = *arguments;
  if (of.head_dim <= 0 || of.head_dim % 8 != 0 || !fits(of.batch, of.length, of.heads, of.head_dim, 3)) return BAD_SIZE;
  if (of.batch == 0 || of.length == 0 || of.heads == 0) return OK;
  if (of.batch > 65535 || of.heads > 65535) return BAD_SIZE;
  if (!aligned(of.qkv) || !aligned(of.out)) return BAD_POINTER;
  if (!(of.scale > 0) || !std::isfinite(of.scale)) return BAD_SCALE;
  if (of.head_dim == 64) return run_64(of, stream);
  if (of.head_dim <= 128) return run<Narrow>(describe<Narrow>(of), stream);
  if (!aligned(of.workspace) || of.workspace_bytes < latentd_attention_sm80_workspace(&of)) return BAD_WORKSPACE;
  auto params = describe<Wide>(of);
  params.output_accum_ptr = of.workspace;
  return run<Wide>(params, stream);
}
