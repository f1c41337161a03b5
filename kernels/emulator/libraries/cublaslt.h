// cuBLASLt's descriptors: attributes that a caller has set, checked when they are set.
#pragma once
#include <cublasLt.h>

namespace cuda_emulator {

struct MatmulDescriptor {
  cudaDataType scale_type = CUDA_R_32F;
  bool transpose_a = false, transpose_b = false;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int64_t bias_batch_stride = 0;
  int bias_type = -1;
  const float *a_scale = nullptr, *b_scale = nullptr;
  int a_scale_mode = CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F, b_scale_mode = CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
};

struct MatrixLayout {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t leading;
  int32_t batch = 1;
  int64_t batch_stride = 0;
};

struct MatmulPreference {
  uint64_t workspace_bytes = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C and D
};

inline MatmulDescriptor& descriptor_of(cublasLtMatmulDesc_t handle) {
  return *reinterpret_cast<MatmulDescriptor*>(handle);
}
inline MatrixLayout& layout_of(cublasLtMatrixLayout_t handle) { return *reinterpret_cast<MatrixLayout*>(handle); }
inline MatmulPreference& preference_of(cublasLtMatmulPreference_t handle) {
  return *reinterpret_cast<MatmulPreference*>(handle);
}

}  // namespace cuda_emulator
