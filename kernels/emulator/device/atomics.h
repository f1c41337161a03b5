// Atomics: plain read-modify-write, since one host thread runs all device threads and switches only where they wait.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace cuda_emulator {

template <typename T>
T replace(T* address, T value) {
  const T old = *address;
  *address = value;
  return old;
}

template <typename T>
struct same { using type = T; };
template <typename T>
using same_t = typename same<T>::type;  // keeps the second argument out of deduction: atomicAdd(&x_f32, 1)

}  // namespace cuda_emulator

template <typename T>
T atomicAdd(T* address, cuda_emulator::same_t<T> value) {
  return cuda_emulator::replace(address, static_cast<T>(*address + value));
}
template <typename T>
T atomicSub(T* address, cuda_emulator::same_t<T> value) {
  return cuda_emulator::replace(address, static_cast<T>(*address - value));
}
template <typename T>
T atomicExch(T* address, cuda_emulator::same_t<T> value) {
  return cuda_emulator::replace(address, value);
}
template <typename T>
T atomicMin(T* address, cuda_emulator::same_t<T> value) {
  return cuda_emulator::replace(address, value < *address ? value : *address);
}
template <typename T>
T atomicMax(T* address, cuda_emulator::same_t<T> value) {
  return cuda_emulator::replace(address, *address < value ? value : *address);
}
template <typename T>
T atomicAnd(T* address, cuda_emulator::same_t<T> value) {
  return cuda_emulator::replace(address, *address & value);
}
template <typename T>
T atomicOr(T* address, cuda_emulator::same_t<T> value) {
  return cuda_emulator::replace(address, *address | value);
}
template <typename T>
T atomicXor(T* address, cuda_emulator::same_t<T> value) {
  return cuda_emulator::replace(address, *address ^ value);
}
template <typename T>
T atomicCAS(T* address, cuda_emulator::same_t<T> expected, cuda_emulator::same_t<T> value) {
  return cuda_emulator::replace(address, *address == expected ? value : *address);
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return cuda_emulator::replace(address, *address >= limit ? 0u : *address + 1);
}
inline unsigned atomicDec(unsigned* address, unsigned limit) {
  return cuda_emulator::replace(address, *address == 0 || *address > limit ? limit : *address - 1);
}
