// cuBLAS: the products candle computes through it.
#include <cublas_v2.h>

#include <algorithm>

#include "../runtime/memory.h"
#include "../runtime/not_emulated.h"
#include "../runtime/stream.h"
#include "gemm.h"

using namespace cuda_emulator;

namespace {

// Device memory that is counted for a handle.
constexpr std::size_t handle_bytes = 8 << 20;

struct Handle {
  CUstream stream = nullptr;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
};

Handle& handle_of(cublasHandle_t handle) { return *reinterpret_cast<Handle*>(handle); }

bool transposes(cublasOperation_t operation) { return operation != CUBLAS_OP_N; }

// alpha and beta are of the compute type, which is f32 for everything that is emulated.
void require_f32(cublasComputeType_t type) {
  switch (type) {
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
    case CUBLAS_COMPUTE_32F_FAST_16F:
    case CUBLAS_COMPUTE_32F_FAST_16BF:
    case CUBLAS_COMPUTE_32F_FAST_TF32: return;
    default: fail("cuBLAS compute type %d is not emulated", static_cast<int>(type));
  }
}

cublasStatus_t multiply(cublasHandle_t handle, Product product) {
  if (product.m == 0 || product.n == 0 || product.batch == 0) return CUBLAS_STATUS_SUCCESS;
  const std::int64_t a_rows = product.a.transposed ? product.k : product.m;
  const std::int64_t b_rows = product.b.transposed ? product.n : product.k;
  const bool fits = product.a.leading >= std::max<std::int64_t>(1, a_rows) &&
                    product.b.leading >= std::max<std::int64_t>(1, b_rows) && product.d.leading >= product.m;
  if (!fits || product.m < 0 || product.n < 0 || product.k < 0) return CUBLAS_STATUS_INVALID_VALUE;
  for (const Matrix& matrix : {product.a, product.b, product.c}) {
    if (!is_supported(matrix.type)) fail("cuBLAS with cudaDataType %d is not emulated", static_cast<int>(matrix.type));
  }
  const auto lock = lock_device();
  const CUresult error = submit(handle_of(handle).stream, {"cuBLAS product", [=] { run_product(product); }});
  return error == CUDA_SUCCESS ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  const auto lock = lock_device();
  charge_memory(handle_bytes);
  *handle = reinterpret_cast<cublasHandle_t>(new Handle);
  return CUBLAS_STATUS_SUCCESS;
}

// Frees memory, for which it waits for the device.
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  const auto lock = lock_device();
  forbid_on_capturing_device();
  refund_memory(handle_bytes);
  delete &handle_of(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle_of(handle).stream = reinterpret_cast<CUstream>(stream);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream) {
  *stream = reinterpret_cast<cudaStream_t>(handle_of(handle).stream);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void*, size_t) { return CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  handle_of(handle).math = mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
  *mode = handle_of(handle).math;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t, cublasPointerMode_t mode) {
  if (mode != CUBLAS_POINTER_MODE_HOST) not_emulated("a cuBLAS pointer mode other than host");
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                                          int m, int n, int k, const void* alpha, const void* a, cudaDataType a_type,
                                          int lda, long long a_stride, const void* b, cudaDataType b_type, int ldb,
                                          long long b_stride, const void* beta, void* c, cudaDataType c_type, int ldc,
                                          long long c_stride, int batch, cublasComputeType_t compute,
                                          cublasGemmAlgo_t) {
  require_f32(compute);
  Product product = {};
  product.m = m, product.n = n, product.k = k, product.batch = batch;
  product.a = {a, a_type, transposes(transa), lda, a_stride};
  product.b = {b, b_type, transposes(transb), ldb, b_stride};
  product.c = product.d = {c, c_type, false, ldc, c_stride};
  product.alpha = *static_cast<const float*>(alpha);
  product.beta = *static_cast<const float*>(beta);
  return multiply(handle, product);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                            int k, const void* alpha, const void* a, cudaDataType a_type, int lda, const void* b,
                            cudaDataType b_type, int ldb, const void* beta, void* c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  return cublasGemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta,
                                    c, c_type, ldc, 0, 1, compute, algorithm);
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                              int k, const float* alpha, const float* a, int lda, const float* b, int ldb,
                              const float* beta, float* c, int ldc) {
  return cublasGemmEx(handle, transa, transb, m, n, k, alpha, a, CUDA_R_32F, lda, b, CUDA_R_32F, ldb, beta, c,
                      CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                                         int m, int n, int k, const float* alpha, const float* a, int lda,
                                         long long a_stride, const float* b, int ldb, long long b_stride,
                                         const float* beta, float* c, int ldc, long long c_stride, int batch) {
  return cublasGemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, a, CUDA_R_32F, lda, a_stride, b, CUDA_R_32F,
                                    ldb, b_stride, beta, c, CUDA_R_32F, ldc, c_stride, batch, CUBLAS_COMPUTE_32F,
                                    CUBLAS_GEMM_DEFAULT);
}

}  // extern "C"
