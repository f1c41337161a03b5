// Tests of device memory: poison, guard zones, and invalid pointers.
#include <cmath>
#include <cstring>

#include "support.h"

namespace {

CUdeviceptr allocate(std::size_t size) {
  CUdeviceptr address = 0;
  EXPECT_OK(cuMemAlloc(&address, size));
  return address;
}

void fresh_memory_is_not_a_number() {
  CUdeviceptr address = 0;
  EXPECT_OK(cuMemAllocAsync(&address, 40, test_stream()));
  EXPECT(address % 256 == 0);
  for (const float value : download<float>(address, 10)) EXPECT(std::isnan(value));
  EXPECT_OK(cuMemsetD8Async(address, 0, 40, test_stream()));
  for (const float value : download<float>(address, 10)) EXPECT(value == 0.0f);
  EXPECT_OK(cuMemFreeAsync(address, test_stream()));
  EXPECT(cuMemFreeAsync(address, test_stream()) == CUDA_ERROR_INVALID_VALUE);
}

void the_device_can_be_full() {
  CUdeviceptr address = 0;
  EXPECT(cuMemAlloc(&address, std::size_t{9} << 30) == CUDA_ERROR_OUT_OF_MEMORY);
}

// Allocations, and objects of the driver and the libraries.
void use_is_counted() {
  const auto used = [] {
    std::size_t free = 0, total = 0;
    EXPECT_OK(cuMemGetInfo(&free, &total));
    return total - free;
  };
  CUmemoryPool pool;
  EXPECT_OK(cuDeviceGetDefaultMemPool(&pool, 0));
  const std::size_t before = used();
  cuuint64_t most = 0;
  EXPECT_OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &most));
  const CUdeviceptr memory = allocate(1000);
  EXPECT(used() == before + 1000);
  CUstream stream;
  CUmodule module;
  EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  EXPECT_OK(cuModuleLoadData(&module, "anything"));
  const std::size_t all = used();
  EXPECT(all > before + 1000);
  EXPECT_OK(cuModuleUnload(module));
  EXPECT_OK(cuStreamDestroy(stream));
  EXPECT_OK(cuMemFree(memory));
  EXPECT(used() == before);
  EXPECT_OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &most));
  EXPECT(most == all);
}

void writes_at(long long index) {
  const CUdeviceptr address = allocate(400);
  launch("self_test_write_at", 1, 1, 0, address, index);
  cuStreamSynchronize(test_stream());
}

}  // namespace

void test_memory() {
  fresh_memory_is_not_a_number();
  the_device_can_be_full();
  use_is_counted();
  expect_abort("something wrote behind an allocation of 400 bytes, at offset 400", [] { writes_at(100); });
  expect_abort("something wrote before an allocation of 400 bytes, at offset -4", [] { writes_at(-1); });
  expect_abort("kernel self_test_write_at touches device memory that is not allocated", [] { writes_at(100000); });
  expect_abort("argument 0 of kernel self_test_write_at", [] {
    float on_host = 0;
    launch("self_test_write_at", 1, 1, 0, &on_host, 0ll);
  });
  expect_abort("argument 0 of kernel self_test_write_at", [] {
    const CUdeviceptr address = allocate(64);
    cuMemFree(address);
    launch("self_test_write_at", 1, 1, 0, address, 0ll);
  });
  expect_abort("which is not device memory", [] {
    float on_host = 0;
    const CUdeviceptr host = reinterpret_cast<CUdeviceptr>(&on_host);
    launch("self_test_affine_by_struct", 1, 32, 0, Affine{0.0f, allocate(4), host, 1});
  });
  expect_abort("overrun an allocation of 400 bytes", [] { cuMemsetD8(allocate(400), 0, 401); });
  expect_abort("cuMemAllocManaged is not emulated", [] {
    CUdeviceptr address;
    cuMemAllocManaged(&address, 16, CU_MEM_ATTACH_GLOBAL);
  });
}
