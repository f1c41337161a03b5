// The arithmetic functions that CUDA C++ has and C++ does not. Fast intrinsics (__expf) compute exactly, so results agree with
// a card's to its documented error, not bit by bit.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

// CUDA has min and max of every pair of number types without std::.
template <typename A, typename B>
inline auto min(A a, B b) -> typename std::enable_if<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value,
                                                     typename std::common_type<A, B>::type>::type {
  using T = typename std::common_type<A, B>::type;
  const T x = static_cast<T>(a), y = static_cast<T>(b);
  if constexpr (std::is_floating_point<T>::value) return std::fmin(x, y);
  return y < x ? y : x;
}
template <typename A, typename B>
inline auto max(A a, B b) -> typename std::enable_if<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value,
                                                     typename std::common_type<A, B>::type>::type {
  using T = typename std::common_type<A, B>::type;
  const T x = static_cast<T>(a), y = static_cast<T>(b);
  if constexpr (std::is_floating_point<T>::value) return std::fmax(x, y);
  return x < y ? y : x;
}

using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float rcbrtf(float x) { return 1.0f / std::cbrt(x); }
inline float normcdff(float x) { return 0.5f * std::erfc(-x * 0.70710678118654752440f); }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752440); }
inline float sinpif(float x) { return static_cast<float>(std::sin(x * 3.14159265358979323846)); }
inline float cospif(float x) { return static_cast<float>(std::cos(x * 3.14159265358979323846)); }

inline float __expf(float x) { return std::exp(x); }
inline float __exp10f(float x) { return std::pow(10.0f, x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __log10f(float x) { return std::log10(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __tanf(float x) { return std::tan(x); }
inline float __tanhf(float x) { return std::tanh(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return 1.0f / std::sqrt(x); }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
// Never contracted into a fused multiply-add, which is their purpose.
__attribute__((optimize("fp-contract=off"))) inline float __fmul_rn(float x, float y) { return x * y; }
__attribute__((optimize("fp-contract=off"))) inline float __fadd_rn(float x, float y) { return x + y; }
__attribute__((optimize("fp-contract=off"))) inline float __fsub_rn(float x, float y) { return x - y; }

namespace cuda_emulator {

template <typename To, typename From>
inline To reinterpret(From value) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To result;
  std::memcpy(&result, &value, sizeof(To));
  return result;
}

}  // namespace cuda_emulator

inline int __float_as_int(float x) { return cuda_emulator::reinterpret<int>(x); }
inline unsigned __float_as_uint(float x) { return cuda_emulator::reinterpret<unsigned>(x); }
inline float __int_as_float(int x) { return cuda_emulator::reinterpret<float>(x); }
inline float __uint_as_float(unsigned x) { return cuda_emulator::reinterpret<float>(x); }
inline long long __double_as_longlong(double x) { return cuda_emulator::reinterpret<long long>(x); }
inline double __longlong_as_double(long long x) { return cuda_emulator::reinterpret<double>(x); }

inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline int __float2int_rd(float x) { return static_cast<int>(std::floor(x)); }
inline int __float2int_ru(float x) { return static_cast<int>(std::ceil(x)); }
inline unsigned __float2uint_rn(float x) { return static_cast<unsigned>(std::nearbyint(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __mul24(int x, int y) { return x * y; }
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>(static_cast<std::uint64_t>(x) * y >> 32);
}

template <typename T>
inline T __ldg(const T* address) { return *address; }
template <typename T>
inline T __ldcg(const T* address) { return *address; }
template <typename T>
inline T __ldca(const T* address) { return *address; }
template <typename T>
inline T __ldcs(const T* address) { return *address; }
template <typename T>
inline T __ldlu(const T* address) { return *address; }
template <typename T, typename V>
inline void __stcg(T* address, V value) { *address = value; }
template <typename T, typename V>
inline void __stcs(T* address, V value) { *address = value; }
template <typename T, typename V>
inline void __stwb(T* address, V value) { *address = value; }
template <typename T, typename V>
inline void __stwt(T* address, V value) { *address = value; }

[[noreturn]] inline void __trap() { __builtin_trap(); }
inline bool __isGlobal(const void*) { return true; }
#define __builtin_assume(condition) ((void)0)
