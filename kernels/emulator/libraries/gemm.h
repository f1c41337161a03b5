// Matrix products as cuBLAS defines them: column-major, D = epilogue(alpha * op(A) op(B) + beta * C), summed in f32.
#pragma once
#include <library_types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../runtime/stream.h"

namespace cuda_emulator {

struct Matrix {
  const void* data;
  cudaDataType type;
  bool transposed;
  std::int64_t leading;       // elements from one column to the next
  std::int64_t batch_stride;  // elements
};

enum class Activation { none, relu, gelu };

struct Product {
  std::int64_t m, n, k, batch;
  Matrix a, b, c, d;
  float alpha, beta;
  // Factors of rows of op(A) and columns of op(B): one each, or a single one for all; null for 1.
  const float *a_scale, *b_scale;
  bool a_scale_by_row, b_scale_by_column;
  const void* bias;  // one for each row of D; null for none
  cudaDataType bias_type;
  std::int64_t bias_batch_stride;
  Activation activation;
};

// Aborts if a matrix exceeds its device memory.
void run_product(const Product& product);

std::size_t bytes_of(cudaDataType type);
bool is_supported(cudaDataType type);

}  // namespace cuda_emulator
