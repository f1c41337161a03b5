// cuBLASLt: making descriptors and setting their attributes. An attribute that is not emulated aborts, unless it is
// set to its default.
#include <cstring>

#include "../runtime/not_emulated.h"
#include "cublaslt.h"

using namespace cuda_emulator;

namespace {

// Copies an attribute of exactly this size.
template <typename T>
cublasStatus_t take(T& target, const void* source, size_t size) {
  if (size != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&target, source, size);
  return CUBLAS_STATUS_SUCCESS;
}

// An attribute that may only have its default value.
template <typename T>
cublasStatus_t insist(T only, const void* source, size_t size, const char* name) {
  T value;
  const cublasStatus_t status = take(value, source, size);
  if (status == CUBLAS_STATUS_SUCCESS && value != only) fail("%s other than its default is not emulated", name);
  return status;
}

cublasStatus_t take_transpose(bool& target, const void* source, size_t size) {
  int32_t value = 0;
  const cublasStatus_t status = take(value, source, size);
  target = value != CUBLAS_OP_N;
  return status;
}

cublasStatus_t take_scale_mode(int& target, const void* source, size_t size) {
  const cublasStatus_t status = take(target, source, size);
  if (status == CUBLAS_STATUS_SUCCESS && target != CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F &&
      target != CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F) {
    fail("cuBLASLt scale mode %d is not emulated", target);
  }
  return status;
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* handle, cublasComputeType_t compute,
                                        cudaDataType_t scale_type) {
  if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC &&
      compute != CUBLAS_COMPUTE_32F_FAST_TF32 && compute != CUBLAS_COMPUTE_32F_FAST_16BF) {
    fail("cuBLASLt compute type %d is not emulated", static_cast<int>(compute));
  }
  if (scale_type != CUDA_R_32F) fail("cuBLASLt scale type %d is not emulated", static_cast<int>(scale_type));
  *handle = reinterpret_cast<cublasLtMatmulDesc_t>(new MatmulDescriptor);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t handle) {
  delete &descriptor_of(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t size) {
  MatmulDescriptor& descriptor = descriptor_of(handle);
  const void* unused = nullptr;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return take_transpose(descriptor.transpose_a, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB: return take_transpose(descriptor.transpose_b, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return take(descriptor.epilogue, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return take(descriptor.bias, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE: return take(descriptor.bias_batch_stride, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return take(descriptor.bias_type, value, size);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER: return take(descriptor.a_scale, value, size);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER: return take(descriptor.b_scale, value, size);
    case CUBLASLT_MATMUL_DESC_A_SCALE_MODE: return take_scale_mode(descriptor.a_scale_mode, value, size);
    case CUBLASLT_MATMUL_DESC_B_SCALE_MODE: return take_scale_mode(descriptor.b_scale_mode, value, size);
    // Changes a card's accumulation within the tolerance of its results.
    case CUBLASLT_MATMUL_DESC_FAST_ACCUM: return size == 1 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: return insist<int32_t>(CUBLASLT_POINTER_MODE_HOST, value, size, "pointer mode");
    case CUBLASLT_MATMUL_DESC_TRANSC: return insist<int32_t>(CUBLAS_OP_N, value, size, "TRANSC");
    case CUBLASLT_MATMUL_DESC_C_SCALE_POINTER:
    case CUBLASLT_MATMUL_DESC_D_SCALE_POINTER:
    case CUBLASLT_MATMUL_DESC_AMAX_D_POINTER:
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return insist(unused, value, size, "a scale of C or D or an aux matrix");
    default: fail("cuBLASLt matmul attribute %d is not emulated", static_cast<int>(attribute));
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* handle, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
  auto* layout = new MatrixLayout;
  layout->type = type;
  layout->rows = rows;
  layout->columns = columns;
  layout->leading = leading;
  *handle = reinterpret_cast<cublasLtMatrixLayout_t>(layout);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t handle) {
  delete &layout_of(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t handle, cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t size) {
  MatrixLayout& layout = layout_of(handle);
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE: return take(layout.type, value, size);
    case CUBLASLT_MATRIX_LAYOUT_ROWS: return take(layout.rows, value, size);
    case CUBLASLT_MATRIX_LAYOUT_COLS: return take(layout.columns, value, size);
    case CUBLASLT_MATRIX_LAYOUT_LD: return take(layout.leading, value, size);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return take(layout.batch, value, size);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return take(layout.batch_stride, value, size);
    case CUBLASLT_MATRIX_LAYOUT_ORDER: return insist<int32_t>(CUBLASLT_ORDER_COL, value, size, "a matrix order");
    default: fail("cuBLASLt layout attribute %d is not emulated", static_cast<int>(attribute));
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* handle) {
  *handle = reinterpret_cast<cublasLtMatmulPreference_t>(new MatmulPreference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t handle) {
  delete &preference_of(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t size) {
  MatmulPreference& preference = preference_of(handle);
  uint32_t ignored;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return take(preference.workspace_bytes, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return take(preference.alignment[0], value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return take(preference.alignment[1], value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return take(preference.alignment[2], value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return take(preference.alignment[3], value, size);
    // Restricts a card's algorithms; here there is no choice.
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return take(ignored, value, size);
    default: fail("cuBLASLt preference %d is not emulated", static_cast<int>(attribute));
  }
}

}  // extern "C"
