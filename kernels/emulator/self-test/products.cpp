// Tests of cuBLASLt: epilogues, batches and scaled fp8 against sums in f64.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <cmath>
#include <cstring>

#include "support.h"

namespace {

// A product of A [k, m] transposed and B [k, n], as in this project.
struct Case {
  cudaDataType type, output;
  int m, n, k, batch;
  cublasLtEpilogue_t epilogue;
  bool scaled;
};

template <typename T>
void set(cublasLtMatmulDesc_t descriptor, cublasLtMatmulDescAttributes_t attribute, T value) {
  EXPECT_OK(cublasLtMatmulDescSetAttribute(descriptor, attribute, &value, sizeof value));
}

cublasLtMatrixLayout_t layout(cudaDataType type, int rows, int columns, int batch, int64_t batch_stride) {
  cublasLtMatrixLayout_t created;
  EXPECT_OK(cublasLtMatrixLayoutCreate(&created, type, rows, columns, rows));
  EXPECT_OK(cublasLtMatrixLayoutSetAttribute(created, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
  EXPECT_OK(cublasLtMatrixLayoutSetAttribute(created, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &batch_stride,
                                             sizeof batch_stride));
  return created;
}

// Rounds the numbers to the type and puts them on the device.
template <typename T>
CUdeviceptr upload_as(std::vector<float>& values) {
  std::vector<T> rounded;
  for (float& value : values) {
    rounded.push_back(T(value));
    value = static_cast<float>(rounded.back());
  }
  return upload(rounded);
}

CUdeviceptr upload_as(cudaDataType type, std::vector<float>& values) {
  switch (type) {
    case CUDA_R_16BF: return upload_as<__nv_bfloat16>(values);
    case CUDA_R_8F_E4M3: return upload_as<__nv_fp8_e4m3>(values);
    default: return upload(values);
  }
}

std::vector<float> download_as(cudaDataType type, CUdeviceptr address, std::size_t count) {
  if (type == CUDA_R_32F) return download<float>(address, count);
  std::vector<float> values;
  for (const __nv_bfloat16 value : download<__nv_bfloat16>(address, count)) values.push_back(__bfloat162float(value));
  return values;
}

double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

void agrees(const Case& c) {
  auto a = numbers(c.m * c.k, 1), b = numbers(c.n * c.k * c.batch, 2), bias = numbers(c.m, 3);
  const auto row_scales = numbers(c.m, 4), column_scales = numbers(c.n, 5);
  const CUdeviceptr a_at = upload_as(c.type, a), b_at = upload_as(c.type, b), bias_at = upload_as(c.output, bias);
  auto zeros = std::vector<float>(c.m * c.n * c.batch);
  const CUdeviceptr d_at = upload_as(c.output, zeros), row_at = upload(row_scales), column_at = upload(column_scales);
  const CUdeviceptr workspace = upload(std::vector<char>(1 << 20));

  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t descriptor;
  EXPECT_OK(cublasLtCreate(&handle));
  EXPECT_OK(cublasLtMatmulDescCreate(&descriptor, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  set(descriptor, CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T});
  set(descriptor, CUBLASLT_MATMUL_DESC_EPILOGUE, c.epilogue);
  set(descriptor, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias_at);
  set(descriptor, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, c.output);
  if (c.scaled) {
    set(descriptor, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
    set(descriptor, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
    set(descriptor, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, row_at);
    set(descriptor, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, column_at);
  }
  // All batch elements share A.
  const auto a_layout = layout(c.type, c.k, c.m, c.batch, 0), b_layout = layout(c.type, c.k, c.n, c.batch, c.k * c.n);
  const auto d_layout = layout(c.output, c.m, c.n, c.batch, c.m * c.n);
  cublasLtMatmulPreference_t preference;
  EXPECT_OK(cublasLtMatmulPreferenceCreate(&preference));
  const size_t workspace_bytes = 1 << 20;
  EXPECT_OK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                                 sizeof workspace_bytes));
  cublasLtMatmulHeuristicResult_t found[3];
  int count = 0;
  EXPECT_OK(cublasLtMatmulAlgoGetHeuristic(handle, descriptor, a_layout, b_layout, d_layout, d_layout, preference, 3,
                                           found, &count));
  // Scales for each row are only on Hopper.
  for (const auto& [capability, has] : {std::pair{"8.9", false}, {"9.0", true}, {"12.0", false}}) {
    setenv("CUDA_EMULATOR_CAPABILITY", capability, 1);
    cublasLtMatmulHeuristicResult_t result;
    int results = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, descriptor, a_layout, b_layout, d_layout,
                                                                 d_layout, preference, 1, &result, &results);
    EXPECT(status == (has || !c.scaled ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED));
    unsetenv("CUDA_EMULATOR_CAPABILITY");
  }
  EXPECT(count > 1 && std::memcmp(&found[0].algo, &found[1].algo, sizeof found[0].algo) != 0);
  // A stored algorithm is checked; bytes that are no algorithm are an error.
  cublasLtMatmulHeuristicResult_t checked;
  EXPECT_OK(cublasLtMatmulAlgoCheck(handle, descriptor, a_layout, b_layout, d_layout, d_layout, &found[0].algo, &checked));
  EXPECT(checked.workspaceSize == found[0].workspaceSize);
  const cublasLtMatmulAlgo_t none = {};
  EXPECT(cublasLtMatmulAlgoCheck(handle, descriptor, a_layout, b_layout, d_layout, d_layout, &none, &checked) ==
         CUBLAS_STATUS_NOT_SUPPORTED);
  const float alpha = 0.5f, beta = 0.0f;
  EXPECT_OK(cublasLtMatmul(handle, descriptor, &alpha, (void*)a_at, a_layout, (void*)b_at, b_layout, &beta,
                           (void*)d_at, d_layout, (void*)d_at, d_layout, &found[0].algo, (void*)workspace,
                           workspace_bytes, (cudaStream_t)test_stream()));

  const auto d = download_as(c.output, d_at, c.m * c.n * c.batch);
  const bool biased = c.epilogue == CUBLASLT_EPILOGUE_BIAS || c.epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
  for (int batch = 0; batch < c.batch; ++batch) {
    for (int column = 0; column < c.n; ++column) {
      for (int row = 0; row < c.m; ++row) {
        double sum = 0;
        for (int i = 0; i < c.k; ++i) sum += double(a[row * c.k + i]) * b[(batch * c.n + column) * c.k + i];
        double expected = alpha * sum * (c.scaled ? double(row_scales[row]) * column_scales[column] : 1.0);
        if (biased) expected += bias[row];
        if (c.epilogue == CUBLASLT_EPILOGUE_GELU_BIAS || c.epilogue == CUBLASLT_EPILOGUE_GELU) expected = gelu(expected);
        const double tolerance = c.output == CUDA_R_32F ? 1e-4 : 1e-2;
        EXPECT(std::fabs(d[(batch * c.n + column) * c.m + row] - expected) <= tolerance * (1 + std::fabs(expected)));
      }
    }
  }
}

// fp8 must be aligned to 16 bytes and have A transposed.
void refuses_fp8(int k, cublasOperation_t transpose_b) {
  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t descriptor;
  cublasLtMatmulPreference_t preference;
  EXPECT_OK(cublasLtCreate(&handle));
  EXPECT_OK(cublasLtMatmulPreferenceCreate(&preference));
  EXPECT_OK(cublasLtMatmulDescCreate(&descriptor, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  set(descriptor, CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T});
  set(descriptor, CUBLASLT_MATMUL_DESC_TRANSB, int32_t{transpose_b});
  const auto a = layout(CUDA_R_8F_E4M3, k, 16, 1, 0), b = layout(CUDA_R_8F_E4M3, k, k, 1, 0);
  const auto d = layout(CUDA_R_16BF, 16, k, 1, 0);
  cublasLtMatmulHeuristicResult_t found;
  int count;
  EXPECT(cublasLtMatmulAlgoGetHeuristic(handle, descriptor, a, b, d, d, preference, 1, &found, &count) ==
         CUBLAS_STATUS_NOT_SUPPORTED);
}

}  // namespace

void test_products() {
  agrees({CUDA_R_32F, CUDA_R_32F, 37, 5, 19, 1, CUBLASLT_EPILOGUE_DEFAULT, false});
  agrees({CUDA_R_32F, CUDA_R_32F, 33, 6, 40, 3, CUBLASLT_EPILOGUE_BIAS, false});
  agrees({CUDA_R_16BF, CUDA_R_16BF, 64, 7, 48, 2, CUBLASLT_EPILOGUE_GELU_BIAS, false});
  agrees({CUDA_R_16BF, CUDA_R_32F, 8, 1, 8, 1, CUBLASLT_EPILOGUE_GELU, false});
  agrees({CUDA_R_8F_E4M3, CUDA_R_16BF, 48, 9, 32, 1, CUBLASLT_EPILOGUE_DEFAULT, true});
  agrees({CUDA_R_8F_E4M3, CUDA_R_16BF, 16, 3, 64, 1, CUBLASLT_EPILOGUE_GELU_BIAS, true});
  refuses_fp8(24, CUBLAS_OP_N);
  refuses_fp8(32, CUBLAS_OP_T);
}
