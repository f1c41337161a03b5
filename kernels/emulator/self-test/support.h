// Helpers of the emulator's tests: expectations, a device with a stream, and tests that must abort.
#pragma once
#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#define EXPECT(condition)                                                             \
  do {                                                                                \
    if (!(condition)) {                                                               \
      std::fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);   \
      std::exit(1);                                                                   \
    }                                                                                 \
  } while (false)
#define EXPECT_OK(call) EXPECT((call) == 0)

// The stream that all tests use; it does not wait for the legacy stream.
CUstream test_stream();

CUfunction kernel(const char* name);

// The argument of self_test_affine_by_struct.
struct Affine {
  float add;
  CUdeviceptr x, y;
  int count;
};

// Launches with the addresses of the given arguments.
template <typename... Arguments>
CUresult launch_on(CUstream stream, const char* name, unsigned grid, unsigned block, unsigned shared_bytes,
                   Arguments... arguments) {
  void* pointers[] = {static_cast<void*>(&arguments)..., nullptr};
  return cuLaunchKernel(kernel(name), grid, 1, 1, block, 1, 1, shared_bytes, stream, pointers, nullptr);
}

template <typename... Arguments>
CUresult launch(const char* name, unsigned grid, unsigned block, unsigned shared_bytes, Arguments... arguments) {
  return launch_on(test_stream(), name, grid, block, shared_bytes, arguments...);
}

// Device memory that holds a copy of these values; tests never free it.
template <typename T>
CUdeviceptr upload(const std::vector<T>& values) {
  CUdeviceptr address = 0;
  EXPECT_OK(cuMemAlloc(&address, values.size() * sizeof(T)));
  EXPECT_OK(cuMemcpyHtoD(address, values.data(), values.size() * sizeof(T)));
  return address;
}

template <typename T>
std::vector<T> download(CUdeviceptr address, std::size_t count) {
  std::vector<T> values(count);
  EXPECT_OK(cuMemcpyDtoH(values.data(), address, count * sizeof(T)));
  return values;
}

// Runs `body` in a child process, which must abort and print `message`.
void expect_abort(const char* message, const std::function<void()>& body);

// Fixed pseudorandom numbers between -1 and 1.
std::vector<float> numbers(std::size_t count, unsigned seed);

void test_blocks();
void test_images();
void test_memory();
void test_graphs();
void test_products();
