// Functions that the toolkit's half and bfloat16 headers define only for devices: elementary functions and fused multiply-add.
// A card computes these through f32 as well.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>

#define CUDA_EMULATOR_FUNCTION(name, expression)                                    \
  inline __half name(__half a) {                                                    \
    const float x = __half2float(a);                                                \
    return __float2half(expression);                                                \
  }                                                                                 \
  inline __nv_bfloat16 name(__nv_bfloat16 a) {                                      \
    const float x = __bfloat162float(a);                                            \
    return __float2bfloat16(expression);                                            \
  }                                                                                 \
  inline __half2 h2##name(__half2 a) { return __halves2half2(name(a.x), name(a.y)); } \
  inline __nv_bfloat162 h2##name(__nv_bfloat162 a) { return __halves2bfloat162(name(a.x), name(a.y)); }

CUDA_EMULATOR_FUNCTION(hexp, std::exp(x))
CUDA_EMULATOR_FUNCTION(hexp2, std::exp2(x))
CUDA_EMULATOR_FUNCTION(hlog, std::log(x))
CUDA_EMULATOR_FUNCTION(hlog2, std::log2(x))
CUDA_EMULATOR_FUNCTION(hsqrt, std::sqrt(x))
CUDA_EMULATOR_FUNCTION(hrsqrt, 1.0f / std::sqrt(x))
CUDA_EMULATOR_FUNCTION(hrcp, 1.0f / x)
CUDA_EMULATOR_FUNCTION(hsin, std::sin(x))
CUDA_EMULATOR_FUNCTION(hcos, std::cos(x))
CUDA_EMULATOR_FUNCTION(htanh, std::tanh(x))
CUDA_EMULATOR_FUNCTION(hceil, std::ceil(x))
CUDA_EMULATOR_FUNCTION(hfloor, std::floor(x))
CUDA_EMULATOR_FUNCTION(hrint, std::nearbyint(x))
CUDA_EMULATOR_FUNCTION(htrunc, std::trunc(x))
#undef CUDA_EMULATOR_FUNCTION

// Rounded once: the f64 sum is so close to exact that rounding it again does not affect a test.
inline __half __hfma(__half a, __half b, __half c) {
  return __double2half(static_cast<double>(__half2float(a)) * __half2float(b) + __half2float(c));
}
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  return __double2bfloat16(static_cast<double>(__bfloat162float(a)) * __bfloat162float(b) + __bfloat162float(c));
}
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
  return __halves2half2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  return __halves2bfloat162(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
