// Matrix products: both operands are widened to f32 and packed, then multiplied in tiles that fit the registers.
#include "gemm.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "../runtime/memory.h"
#include "../runtime/not_emulated.h"

namespace cuda_emulator {
namespace {

constexpr std::int64_t tile_rows = 32, tile_columns = 4;

float widen(float x) { return x; }
float widen(__half x) { return __half2float(x); }
float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
float widen(__nv_fp8_e4m3 x) { return static_cast<float>(x); }

// Calls f with a null pointer of the C++ type behind `type`.
template <typename F>
void with_type(cudaDataType type, F f) {
  switch (type) {
    case CUDA_R_32F: return f(static_cast<float*>(nullptr));
    case CUDA_R_16F: return f(static_cast<__half*>(nullptr));
    case CUDA_R_16BF: return f(static_cast<__nv_bfloat16*>(nullptr));
    case CUDA_R_8F_E4M3: return f(static_cast<__nv_fp8_e4m3*>(nullptr));
    default: fail("matrices of cudaDataType %d are not emulated", static_cast<int>(type));
  }
}

void require_matrix(const Matrix& matrix, std::int64_t rows, std::int64_t columns, std::int64_t batch,
                    const char* what) {
  if (rows == 0 || columns == 0 || batch == 0) return;
  const std::int64_t last = matrix.batch_stride * (batch - 1) + matrix.leading * (columns - 1) + rows;
  require_device_memory(reinterpret_cast<std::uint64_t>(matrix.data), last * bytes_of(matrix.type), what);
}

// op(X) as f32 in panels: `width` neighbours of the outer dimension for every step along k, zeros beyond the end.
std::vector<float> pack(const Matrix& matrix, std::int64_t outer, std::int64_t k, bool k_is_leading,
                        std::int64_t batch, std::int64_t width) {
  const std::int64_t panels = (outer + width - 1) / width;
  std::vector<float> packed(static_cast<std::size_t>(panels * width * k), 0.0f);
  const std::int64_t outer_step = k_is_leading ? matrix.leading : 1, k_step = k_is_leading ? 1 : matrix.leading;
  with_type(matrix.type, [&](auto* type) {
    const auto* from = static_cast<decltype(type)>(const_cast<void*>(matrix.data)) + batch * matrix.batch_stride;
    for (std::int64_t index = 0; index < outer; ++index) {
      float* to = packed.data() + index / width * width * k + index % width;
      for (std::int64_t step = 0; step < k; ++step) to[step * width] = widen(from[index * outer_step + step * k_step]);
    }
  });
  return packed;
}

void multiply_tile(const float* __restrict__ a, const float* __restrict__ b, std::int64_t k,
                   float (&__restrict__ sums)[tile_columns][tile_rows]) {
  for (auto& column : sums) std::fill(column, column + tile_rows, 0.0f);
  for (std::int64_t step = 0; step < k; ++step) {
    for (std::int64_t column = 0; column < tile_columns; ++column) {
      const float factor = b[step * tile_columns + column];
      for (std::int64_t row = 0; row < tile_rows; ++row) sums[column][row] += factor * a[step * tile_rows + row];
    }
  }
}

float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return x > 0.0f ? x : 0.0f;
    case Activation::gelu: return 0.5f * x * (1.0f + std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x)));
  }
  return x;
}

// Everything after the sums, for one batch element.
class Finish {
 public:
  Finish(const Product& product, std::int64_t batch) : p(product), batch(batch), bias(product.bias ? product.m : 0) {
    if (p.bias == nullptr) return;
    with_type(p.bias_type, [&](auto* type) {
      const auto* from = static_cast<decltype(type)>(const_cast<void*>(p.bias)) + batch * p.bias_batch_stride;
      for (std::int64_t row = 0; row < p.m; ++row) bias[row] = widen(from[row]);
    });
  }

  void store(std::int64_t row, std::int64_t column, float sum) const {
    float value = p.alpha * sum;
    if (p.a_scale != nullptr) value *= p.a_scale[p.a_scale_by_row ? row : 0];
    if (p.b_scale != nullptr) value *= p.b_scale[p.b_scale_by_column ? column : 0];
    if (p.beta != 0.0f) {
      with_type(p.c.type, [&](auto* type) {
        const auto* from = static_cast<decltype(type)>(const_cast<void*>(p.c.data));
        value += p.beta * widen(from[batch * p.c.batch_stride + column * p.c.leading + row]);
      });
    }
    if (!bias.empty()) value += bias[row];
    value = activate(p.activation, value);
    with_type(p.d.type, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      auto* to = static_cast<T*>(const_cast<void*>(p.d.data));
      to[batch * p.d.batch_stride + column * p.d.leading + row] = T(value);
    });
  }

 private:
  const Product& p;
  std::int64_t batch;
  std::vector<float> bias;
};

void run_one(const Product& p, std::int64_t batch) {
  const std::vector<float> a = pack(p.a, p.m, p.k, p.a.transposed, batch, tile_rows);
  const std::vector<float> b = pack(p.b, p.n, p.k, !p.b.transposed, batch, tile_columns);
  const Finish finish(p, batch);
  float sums[tile_columns][tile_rows];
  for (std::int64_t column = 0; column < p.n; column += tile_columns) {
    for (std::int64_t row = 0; row < p.m; row += tile_rows) {
      multiply_tile(a.data() + row * p.k, b.data() + column * p.k, p.k, sums);
      for (std::int64_t j = 0; j < std::min(tile_columns, p.n - column); ++j) {
        for (std::int64_t i = 0; i < std::min(tile_rows, p.m - row); ++i) finish.store(row + i, column + j, sums[j][i]);
      }
    }
  }
}

}  // namespace

bool is_supported(cudaDataType type) {
  return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF || type == CUDA_R_8F_E4M3;
}

std::size_t bytes_of(cudaDataType type) {
  std::size_t bytes = 0;
  with_type(type, [&](auto* pointer) { bytes = sizeof *pointer; });
  return bytes;
}

void run_product(const Product& p) {
  const std::int64_t a_rows = p.a.transposed ? p.k : p.m, a_columns = p.a.transposed ? p.m : p.k;
  const std::int64_t b_rows = p.b.transposed ? p.n : p.k, b_columns = p.b.transposed ? p.k : p.n;
  require_matrix(p.a, a_rows, a_columns, p.batch, "matrix A");
  require_matrix(p.b, b_rows, b_columns, p.batch, "matrix B");
  if (p.beta != 0.0f) require_matrix(p.c, p.m, p.n, p.batch, "matrix C");
  require_matrix(p.d, p.m, p.n, p.batch, "matrix D");
  const auto address = [](const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); };
  if (p.a_scale != nullptr) {
    require_device_memory(address(p.a_scale), (p.a_scale_by_row ? p.m : 1) * sizeof(float), "scales of A");
  }
  if (p.b_scale != nullptr) {
    require_device_memory(address(p.b_scale), (p.b_scale_by_column ? p.n : 1) * sizeof(float), "scales of B");
  }
  if (p.bias != nullptr) {
    const std::int64_t count = p.bias_batch_stride * (p.batch - 1) + p.m;
    require_device_memory(address(p.bias), count * bytes_of(p.bias_type), "bias");
  }
  for (std::int64_t batch = 0; batch < p.batch; ++batch) run_one(p, batch);
}

}  // namespace cuda_emulator
