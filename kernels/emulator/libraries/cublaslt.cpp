// cuBLASLt: proposing algorithms, and products with their epilogues. Unsupported products are the same errors as in the library,
// and an algorithm may only be used as it was proposed: with at least its workspace and alignment.
#include "cublaslt.h"

#include <algorithm>
#include <cstring>

#include "../runtime/memory.h"
#include "../runtime/not_emulated.h"
#include "../driver/images.h"
#include "../runtime/stream.h"
#include "gemm.h"

using namespace cuda_emulator;

namespace {

char the_handle;
// Device memory that is counted for a handle.
constexpr std::size_t handle_bytes = 8 << 20;
constexpr uint64_t magic = 0x6c7420656d756c74;  // marks an algorithm of this library

// How an emulated algorithm uses cublasLtMatmulAlgo_t.
struct Algorithm {
  uint64_t magic;
  uint64_t workspace_bytes;
  uint32_t alignment[4];
  uint32_t bias_alignment;
  int32_t types[3];
  uint64_t index;  // among those proposed for the same product, which all compute the same here
  uint64_t reserved;
};
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t), "an algorithm is 64 bytes");

struct Problem {
  const MatmulDescriptor& descriptor;
  const MatrixLayout &a, &b, &c, &d;
};

uint32_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uint64_t>(pointer) | 256;
  return static_cast<uint32_t>(address & (~address + 1));
}

bool is_multiple(uint64_t value, uint64_t unit) { return value % unit == 0; }

// The conditions of fp8 kernels in cuBLAS's manual: A transposed and B not, everything aligned to 16 bytes.
bool fp8_is_supported(const Problem& p) {
  if (p.a.type != CUDA_R_8F_E4M3 || p.b.type != CUDA_R_8F_E4M3) return false;
  if (!p.descriptor.transpose_a || p.descriptor.transpose_b) return false;
  if (p.d.type == CUDA_R_8F_E4M3) not_emulated("an fp8 result of cuBLASLt");
  const uint64_t width = bytes_of(p.d.type);
  return is_multiple(p.a.leading, 16) && is_multiple(p.b.leading, 16) && is_multiple(p.d.leading * width, 16) &&
         is_multiple(p.c.leading * width, 16) && is_multiple(p.a.rows, 16) && is_multiple(p.d.rows, 16) &&
         is_multiple(p.a.batch_stride, 16) && is_multiple(p.b.batch_stride, 16);
}

cublasStatus_t check(const Problem& p) {
  for (const MatrixLayout* layout : {&p.a, &p.b, &p.c, &p.d}) {
    if (!is_supported(layout->type)) fail("cuBLASLt with cudaDataType %d is not emulated", static_cast<int>(layout->type));
    if (layout->leading < static_cast<int64_t>(layout->rows)) return CUBLAS_STATUS_INVALID_VALUE;
    if (layout->batch != p.d.batch || layout->batch < 1) return CUBLAS_STATUS_INVALID_VALUE;
    if (layout->rows == 0 || layout->columns == 0) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool ta = p.descriptor.transpose_a, tb = p.descriptor.transpose_b;
  const uint64_t k = ta ? p.a.rows : p.a.columns;
  const bool fits = (ta ? p.a.columns : p.a.rows) == p.d.rows && (tb ? p.b.rows : p.b.columns) == p.d.columns &&
                    (tb ? p.b.columns : p.b.rows) == k && p.c.rows == p.d.rows && p.c.columns == p.d.columns;
  if (!fits) return CUBLAS_STATUS_INVALID_VALUE;
  if (p.a.type != p.b.type || p.c.type != p.d.type) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool fp8 = p.a.type == CUDA_R_8F_E4M3;
  if (fp8 && !fp8_is_supported(p)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!fp8 && p.d.type != p.a.type && p.d.type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool by_row = p.descriptor.a_scale_mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
  if (by_row != (p.descriptor.b_scale_mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool scaled = by_row || p.descriptor.a_scale != nullptr || p.descriptor.b_scale != nullptr;
  if (scaled && !fp8) return CUBLAS_STATUS_INVALID_VALUE;
  // As in cuBLAS 13.0, though not in its manual.
  if (by_row && wanted_capability() != 0 && wanted_capability() != 90) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (by_row && p.d.batch > 1) not_emulated("batches of cuBLASLt with a scale for every row");
  return CUBLAS_STATUS_SUCCESS;
}

Activation activation_of(cublasLtEpilogue_t epilogue, bool& biased) {
  biased = false;
  switch (epilogue) {
    case CUBLASLT_EPILOGUE_BIAS: biased = true; return Activation::none;
    case CUBLASLT_EPILOGUE_RELU_BIAS: biased = true; return Activation::relu;
    case CUBLASLT_EPILOGUE_GELU_BIAS: biased = true; return Activation::gelu;
    case CUBLASLT_EPILOGUE_DEFAULT: return Activation::none;
    case CUBLASLT_EPILOGUE_RELU: return Activation::relu;
    case CUBLASLT_EPILOGUE_GELU: return Activation::gelu;
    default: fail("cuBLASLt epilogue %d is not emulated", static_cast<int>(epilogue));
  }
}

Matrix matrix_of(const MatrixLayout& layout, const void* data, bool transposed) {
  return {data, layout.type, transposed, layout.leading, layout.batch_stride};
}

Product product_of(const Problem& p, const void* a, const void* b, const void* c, void* d, float alpha, float beta) {
  Product product = {};
  product.m = p.d.rows, product.n = p.d.columns, product.batch = p.d.batch;
  product.k = p.descriptor.transpose_a ? p.a.rows : p.a.columns;
  product.a = matrix_of(p.a, a, p.descriptor.transpose_a);
  product.b = matrix_of(p.b, b, p.descriptor.transpose_b);
  product.c = matrix_of(p.c, c, false);
  product.d = matrix_of(p.d, d, false);
  product.alpha = alpha, product.beta = beta;
  product.a_scale = p.descriptor.a_scale, product.b_scale = p.descriptor.b_scale;
  product.a_scale_by_row = p.descriptor.a_scale_mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
  product.b_scale_by_column = p.descriptor.b_scale_mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
  bool biased;
  product.activation = activation_of(p.descriptor.epilogue, biased);
  if (biased) {
    if (p.descriptor.bias == nullptr) fail("a cuBLASLt epilogue adds a bias that is not set");
    product.bias = p.descriptor.bias;
    product.bias_type = p.descriptor.bias_type < 0 ? p.d.type : static_cast<cudaDataType>(p.descriptor.bias_type);
    product.bias_batch_stride = p.descriptor.bias_batch_stride;
  }
  return product;
}

// Whether the algorithm may be used for these operands.
void require_algorithm(const Algorithm& algorithm, const Problem& p, const Product& product, size_t workspace_bytes) {
  if (algorithm.magic != magic) fail("cublasLtMatmul is given an algorithm that the library did not propose");
  const int32_t types[3] = {p.a.type, p.b.type, p.d.type};
  if (std::memcmp(types, algorithm.types, sizeof types) != 0) {
    fail("cublasLtMatmul is given an algorithm that was proposed for other types");
  }
  if (workspace_bytes < algorithm.workspace_bytes) {
    fail("cublasLtMatmul is given %zu bytes of workspace for an algorithm that needs %llu", workspace_bytes,
         (unsigned long long)algorithm.workspace_bytes);
  }
  const void* operands[4] = {product.a.data, product.b.data, product.c.data, product.d.data};
  for (int index = 0; index < 4; ++index) {
    if (alignment_of(operands[index]) < algorithm.alignment[index]) {
      fail("matrix %c of cublasLtMatmul is aligned to %u bytes, its algorithm was proposed for %u", "ABCD"[index],
           alignment_of(operands[index]), algorithm.alignment[index]);
    }
  }
  if (product.bias != nullptr && alignment_of(product.bias) < algorithm.bias_alignment) {
    fail("the bias of cublasLtMatmul is aligned to %u bytes, its algorithm was proposed for %u",
         alignment_of(product.bias), algorithm.bias_alignment);
  }
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  const auto lock = lock_device();
  charge_memory(handle_bytes);
  *handle = reinterpret_cast<cublasLtHandle_t>(&the_handle);
  return CUBLAS_STATUS_SUCCESS;
}

// Frees memory, for which it waits for the device.
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) {
  const auto lock = lock_device();
  forbid_on_capturing_device();
  refund_memory(handle_bytes);
  return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion() { return 130000; }

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference_handle, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
  *returned = 0;
  if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
  const Problem problem{descriptor_of(descriptor), layout_of(a), layout_of(b), layout_of(c), layout_of(d)};
  const cublasStatus_t status = check(problem);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const MatmulPreference& preference = preference_of(preference_handle);
  if (problem.a.type == CUDA_R_8F_E4M3 && (preference.alignment[0] < 16 || preference.alignment[1] < 16)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  // The first uses some workspace, so that a workspace which is too small or shared shows.
  for (int index = 0; index < wanted && index < 3; ++index) {
    Algorithm algorithm = {};
    algorithm.magic = magic;
    algorithm.workspace_bytes = index == 0 ? std::min<uint64_t>(preference.workspace_bytes, 64 << 10) : 0;
    std::memcpy(algorithm.alignment, preference.alignment, sizeof algorithm.alignment);
    algorithm.bias_alignment = std::min(alignment_of(problem.descriptor.bias), 16u);
    algorithm.index = index;
    algorithm.types[0] = problem.a.type, algorithm.types[1] = problem.b.type, algorithm.types[2] = problem.d.type;
    cublasLtMatmulHeuristicResult_t& result = results[index];
    result = {};
    std::memcpy(&result.algo, &algorithm, sizeof algorithm);
    result.workspaceSize = algorithm.workspace_bytes;
    result.state = CUBLAS_STATUS_SUCCESS;
    result.wavesCount = 1.0f;
    *returned = index + 1;
  }
  return CUBLAS_STATUS_SUCCESS;
}

// Whether a stored algorithm may be used for this product. The result has its workspace and alignment.
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t descriptor, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo, cublasLtMatmulHeuristicResult_t* result) {
  const Problem problem{descriptor_of(descriptor), layout_of(a), layout_of(b), layout_of(c), layout_of(d)};
  const cublasStatus_t status = check(problem);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  Algorithm algorithm;
  std::memcpy(&algorithm, algo, sizeof algorithm);
  if (algorithm.magic != magic) return CUBLAS_STATUS_NOT_SUPPORTED;
  const int32_t types[3] = {problem.a.type, problem.b.type, problem.d.type};
  if (std::memcmp(types, algorithm.types, sizeof types) != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  *result = {};
  result->algo = *algo;
  result->workspaceSize = algorithm.workspace_bytes;
  result->state = CUBLAS_STATUS_SUCCESS;
  result->wavesCount = 1.0f;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t descriptor, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  const auto lock = lock_device();
  const Problem problem{descriptor_of(descriptor), layout_of(a_layout), layout_of(b_layout), layout_of(c_layout),
                        layout_of(d_layout)};
  const cublasStatus_t status = check(problem);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const Product product = product_of(problem, a, b, c, d, *static_cast<const float*>(alpha),
                                     *static_cast<const float*>(beta));
  if (problem.a.type == CUDA_R_8F_E4M3) {
    for (const void* pointer : {a, b, static_cast<const void*>(d)}) {
      if (alignment_of(pointer) < 16) return CUBLAS_STATUS_NOT_SUPPORTED;
    }
  }
  size_t scratch = 0;
  if (algo != nullptr) {
    Algorithm algorithm;
    std::memcpy(&algorithm, algo, sizeof algorithm);
    require_algorithm(algorithm, problem, product, workspace_bytes);
    scratch = algorithm.workspace_bytes;
  }
  // An algorithm may do anything with its workspace, so another product must not use it at the same time: all algorithms
  // write to it.
  if (workspace_bytes > 0) scratch = std::max<size_t>(scratch, 1);
  const CUresult error = submit(reinterpret_cast<CUstream>(stream), {"cuBLASLt product", [=] {
    if (scratch > 0) {
      require_device_memory(reinterpret_cast<uint64_t>(workspace), scratch, "cuBLASLt's workspace");
      std::memset(workspace, 0xff, scratch);
    }
    run_product(product);
  }});
  return error == CUDA_SUCCESS ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
