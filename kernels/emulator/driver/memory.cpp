// The driver API: device memory, copies and fills.
#include "../runtime/memory.h"

#include <cuda.h>

#include <cstdlib>
#include <cstring>

#include "../runtime/not_emulated.h"
#include "../runtime/stream.h"

using namespace cuda_emulator;

namespace {

void* at(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

CUresult allocate(CUdeviceptr* address, size_t size) {
  if (size == 0) return CUDA_ERROR_INVALID_VALUE;
  const CUdeviceptr reserved = reserve_memory(size);
  if (!commit_memory(reserved, size)) return CUDA_ERROR_OUT_OF_MEMORY;
  *address = reserved;
  return CUDA_SUCCESS;
}

using Work = std::function<void()>;

// A blocking copy or fill is work on the legacy stream and a wait for it.
CUresult blocking(const char* name, Work work) {
  const auto lock = lock_device();
  if (const CUresult error = forbid_unsafe_call()) return error;
  return submit(nullptr, {name, std::move(work)});
}

CUresult asynchronous(const char* name, CUstream stream, Work work) {
  const auto lock = lock_device();
  return submit(stream, {name, std::move(work)});
}

Work to_device(CUdeviceptr target, const void* source, size_t size) {
  return [=] {
    require_device_memory(target, size, "copy to the device");
    std::memcpy(at(target), source, size);
  };
}

Work to_host(void* target, CUdeviceptr source, size_t size) {
  return [=] {
    require_device_memory(source, size, "copy to the host");
    check_guards();
    std::memcpy(target, at(source), size);
  };
}

Work on_device(CUdeviceptr target, CUdeviceptr source, size_t size) {
  return [=] {
    require_device_memory(target, size, "copy on the device, target");
    require_device_memory(source, size, "copy on the device, source");
    std::memmove(at(target), at(source), size);
  };
}

template <typename T>
Work fill(CUdeviceptr target, T value, size_t count) {
  return [=] {
    require_device_memory(target, count * sizeof(T), "fill");
    for (size_t i = 0; i < count; ++i) static_cast<T*>(at(target))[i] = value;
  };
}

}  // namespace

extern "C" {

CUresult cuMemGetInfo(size_t* free, size_t* total) {
  const auto lock = lock_device();
  *total = device_memory_bytes;
  *free = device_memory_bytes - used_memory();
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr* address, size_t size) {
  const auto lock = lock_device();
  if (const CUresult error = forbid_unsafe_call()) return error;
  return allocate(address, size);
}

CUresult cuMemFree(CUdeviceptr address) {
  const auto lock = lock_device();
  if (const CUresult error = forbid_unsafe_call()) return error;
  if (address == 0) return CUDA_SUCCESS;
  return release_memory(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// A driver turns either into a graph node while its stream is capturing. This one returns an error, since this project never
// intends it: such nodes take longer than the graph's kernels, and their memory is not counted.
CUresult cuMemAllocAsync(CUdeviceptr* address, size_t size, CUstream handle) {
  const auto lock = lock_device();
  if (const CUresult error = forbid_on_capturing(stream_of(handle))) return error;
  return allocate(address, size);
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
  const auto lock = lock_device();
  if (address == 0) return CUDA_SUCCESS;
  if (const CUresult error = forbid_on_capturing(stream_of(handle))) return error;
  return release_memory(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemcpyHtoD(CUdeviceptr target, const void* source, size_t size) {
  return blocking("copy to the device", to_device(target, source, size));
}
CUresult cuMemcpyDtoH(void* target, CUdeviceptr source, size_t size) {
  return blocking("copy to the host", to_host(target, source, size));
}
CUresult cuMemcpyDtoD(CUdeviceptr target, CUdeviceptr source, size_t size) {
  return blocking("copy on the device", on_device(target, source, size));
}
// While capturing, host addresses are recorded, not the contents, as on a card.
CUresult cuMemcpyHtoDAsync(CUdeviceptr target, const void* source, size_t size, CUstream stream) {
  return asynchronous("copy to the device", stream, to_device(target, source, size));
}
CUresult cuMemcpyDtoHAsync(void* target, CUdeviceptr source, size_t size, CUstream stream) {
  return asynchronous("copy to the host", stream, to_host(target, source, size));
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr target, CUdeviceptr source, size_t size, CUstream stream) {
  return asynchronous("copy on the device", stream, on_device(target, source, size));
}

CUresult cuMemsetD8(CUdeviceptr target, unsigned char value, size_t count) {
  return blocking("fill", fill(target, value, count));
}
CUresult cuMemsetD16(CUdeviceptr target, unsigned short value, size_t count) {
  return blocking("fill", fill(target, value, count));
}
CUresult cuMemsetD32(CUdeviceptr target, unsigned value, size_t count) {
  return blocking("fill", fill(target, value, count));
}
CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t count, CUstream stream) {
  return asynchronous("fill", stream, fill(target, value, count));
}
CUresult cuMemsetD16Async(CUdeviceptr target, unsigned short value, size_t count, CUstream stream) {
  return asynchronous("fill", stream, fill(target, value, count));
}
CUresult cuMemsetD32Async(CUdeviceptr target, unsigned value, size_t count, CUstream stream) {
  return asynchronous("fill", stream, fill(target, value, count));
}

// Pinned host memory is plain memory.
CUresult cuMemHostAlloc(void** address, size_t size, unsigned) {
  const auto lock = lock_device();
  if (const CUresult error = forbid_unsafe_call()) return error;
  *address = std::aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  return *address == nullptr ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}
CUresult cuMemAllocHost(void** address, size_t size) { return cuMemHostAlloc(address, size, 0); }
CUresult cuMemFreeHost(void* address) {
  std::free(address);
  return CUDA_SUCCESS;
}
CUresult cuMemHostRegister(void*, size_t, unsigned) { return CUDA_SUCCESS; }
CUresult cuMemHostUnregister(void*) { return CUDA_SUCCESS; }

}  // extern "C"
