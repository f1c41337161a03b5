// The driver API: memory pools. There is one, which frees memory immediately, so its settings have no effect.
#include <cuda.h>

#include <cstdint>

#include "../runtime/memory.h"
#include "../runtime/not_emulated.h"
#include "../runtime/stream.h"

using namespace cuda_emulator;

namespace {

struct Pool {
  std::uint64_t release_threshold = 0;
  int reuse[3] = {1, 1, 1};
} pool;

}  // namespace

extern "C" {

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* handle, CUdevice) {
  *handle = reinterpret_cast<CUmemoryPool>(&pool);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool* handle, CUdevice device) { return cuDeviceGetDefaultMemPool(handle, device); }

CUresult cuMemPoolSetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void* value) {
  const auto lock = lock_device();
  switch (attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: pool.release_threshold = *static_cast<std::uint64_t*>(value); break;
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES: pool.reuse[0] = *static_cast<int*>(value); break;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC: pool.reuse[1] = *static_cast<int*>(value); break;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES: pool.reuse[2] = *static_cast<int*>(value); break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH: reset_most_used_memory(); break;
    default: fail("setting memory pool attribute %d is not emulated", static_cast<int>(attribute));
  }
  return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void* value) {
  const auto lock = lock_device();
  switch (attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: *static_cast<std::uint64_t*>(value) = pool.release_threshold; break;
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES: *static_cast<int*>(value) = pool.reuse[0]; break;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC: *static_cast<int*>(value) = pool.reuse[1]; break;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES: *static_cast<int*>(value) = pool.reuse[2]; break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH: *static_cast<std::uint64_t*>(value) = most_used_memory(); break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: *static_cast<std::uint64_t*>(value) = used_memory(); break;
    default: fail("memory pool attribute %d is not emulated", static_cast<int>(attribute));
  }
  return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool, size_t) { return CUDA_SUCCESS; }

CUresult cuDeviceGetGraphMemAttribute(CUdevice, CUgraphMem_attribute, void* value) {
  *static_cast<std::uint64_t*>(value) = 0;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGraphMemTrim(CUdevice) { return CUDA_SUCCESS; }

}  // extern "C"
