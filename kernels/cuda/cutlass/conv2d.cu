// 2-D convolution, channels last, with bias: bf16, accumulated in f32.
//
// An implicit GEMM of CUTLASS if the input channels are divisible by 8, else a plain kernel (for small test models, where
// speed does not matter).
#include "common.cuh"

#include "cutlass/conv/kernel/default_conv2d_fprop_with_broadcast.h"
#include "cutlass/device_kernel.h"
#include "cutlass/epilogue/thread/linear_combination_residual_block.h"

namespace latentd::conv2d {

using Element = cutlass::bfloat16_t;
using Layout = cutlass::layout::TensorNHWC;
template <int m, int n, int k>
using Shape = cutlass::gemm::GemmShape<m, n, k>;

// `out = (accumulator + bias) + residual` in f32, `width` channels at a time; the residual is null, which means zeros.
template <int width>
using Epilogue = cutlass::epilogue::thread::LinearCombinationResidualBlock<
    Element, float, float, Element, width, cutlass::epilogue::thread::Identity, cutlass::plus,
    cutlass::epilogue::thread::Identity>;

template <typename Block, typename Warp, int stages, int width>
using ImplicitGemm = typename cutlass::conv::kernel::DefaultConv2dFpropWithBroadcast<
    Element, Layout, Element, Layout, Element, Layout, float, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80,
    Block, Warp, Shape<16, 8, 16>, Epilogue<width>, cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<4>,
    stages, cutlass::arch::OpMultiplyAdd, cutlass::conv::IteratorAlgorithm::kOptimized,
    cutlass::conv::StrideSupport::kUnity, 8, 8>::Kernel;

// (pixels, output channels, input channels) of a block and a warp. The block reads each input value from the
// L2 cache once for each kernel position and tile of output channels, so it is as large as 8 warps and 99 KiB
// of shared memory (sm_89) allow.
using Broad = ImplicitGemm<Shape<256, 128, 32>, Shape<64, 64, 32>, 4, 8>;
// For output channels that are not divisible by 8: the image's 3.
using Narrow = ImplicitGemm<Shape<128, 32, 64>, Shape<32, 32, 64>, 3, 1>;
static_assert(sizeof(Broad::SharedStorage) <= 99 << 10 && sizeof(Narrow::SharedStorage) <= 99 << 10);

template <typename Kernel>
int run(const NhwcConvolution& p, void* stream) {
  cutlass::conv::Conv2dProblemSize size(p.n, p.h, p.w, p.c, p.k, p.kernel, p.kernel, p.h, p.w, p.kernel / 2,
                                        p.kernel / 2, /*stride*/ 1, 1, /*dilation*/ 1, 1,
                                        cutlass::conv::Mode::kCrossCorrelation);
  // The kernel only reads through x, weight and bias, though its parameters are not const.
  auto element = [](const __nv_bfloat16* data) { return reinterpret_cast<Element*>(const_cast<__nv_bfloat16*>(data)); };
  auto tensor = [&](const __nv_bfloat16* data, int h, int w, int c) {
    return cutlass::TensorRef<Element, Layout>(element(data), Layout(c, w * c, h * w * c));
  };
  typename Kernel::Arguments arguments(size, tensor(p.x, p.h, p.w, p.c), tensor(p.weight, p.kernel, p.kernel, p.c),
                                       tensor(nullptr, p.h, p.w, p.k), tensor(p.out, p.h, p.w, p.k),
                                       {/*accumulator*/ 1.0f, /*residual*/ 1.0f},
                                       cutlass::conv::SplitKMode::kSerial, element(p.bias));
  if (Kernel::Mma::IteratorA::can_implement(size) != cutlass::Status::kSuccess ||
      Kernel::Mma::IteratorB::can_implement(size) != cutlass::Status::kSuccess) {
    return BAD_SIZE;
  }
  typename Kernel::Params params(arguments);
  dim3 grid = typename Kernel::ThreadblockSwizzle().get_grid_shape(params.grid_tiled_shape);
  if (grid.y > 65535) return BAD_SIZE;
  return launch<cutlass::Kernel<Kernel>>(params, grid, dim3(Kernel::kThreadCount),
                                         sizeof(typename Kernel::SharedStorage), stream);
}

// One thread for one output value.
__global__ void plain(const __grid_constant__ NhwcConvolution p) {
  int64_t total = int64_t(p.n) * p.h * p.w * p.k;
  int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= total) return;
  int k = at % p.k;
  int64_t pixel = at / p.k;
  int x = pixel % p.w;
  int y = pixel / p.w % p.h;
  int64_t image = pixel / p.w / p.h;
  float sum = 0;
  for (int r = 0; r < p.kernel; r++) {
    for (int s = 0; s < p.kernel; s++) {
      int from_y = y + r - p.kernel / 2, from_x = x + s - p.kernel / 2;
      if (from_y < 0 || from_y >= p.h || from_x < 0 || from_x >= p.w) continue;
      const __nv_bfloat16* input = p.x + ((image * p.h + from_y) * p.w + from_x) * p.c;
      const __nv_bfloat16* weight = p.weight + (int64_t(k * p.kernel + r) * p.kernel + s) * p.c;
      for (int c = 0; c < p.c; c++) {
        sum += float(input[c]) * float(weight[c]);
      }
    }
  }
  sum += float(p.bias[k]);
  p.out[at] = __float2bfloat16_rn(sum);
}

int run_plain(const NhwcConvolution& p, void* stream) {
  int64_t total = int64_t(p.n) * p.h * p.w * p.k;
  return launch<plain>(p, dim3(unsigned((total + 255) / 256)), dim3(256), 0, stream);
}

}  // namespace latentd::conv2d

extern "C" int latentd_conv2d_nhwc_bf16(const NhwcConvolution* arguments, void* stream) {
  using namespace latentd;
  using namespace latentd::conv2d;
  const NhwcConvolution& p = *arguments;
  // CUTLASS keeps byte offsets in 32 bits: no tensor may reach 2 GiB.
  if ((p.kernel != 1 && p.kernel != 3) || !fits(p.n, p.h, p.w, p.c, 2) || !fits(p.n, p.h, p.w, p.k, 2) ||
      !fits(p.k, p.kernel, p.kernel, p.c, 2)) {
    return BAD_SIZE;
  }
  if (p.n == 0 || p.h == 0 || p.w == 0 || p.k == 0) return OK;
  if (p.c == 0) return BAD_SIZE;
  if (!aligned(p.x) || !aligned(p.weight) || !aligned(p.bias) || !aligned(p.out)) return BAD_POINTER;
  if (p.c % 8 != 0) return run_plain(p, stream);
  return p.k % 8 == 0 ? run<Broad>(p, stream) : run<Narrow>(p, stream);
}
