// The driver API: modules, functions and launches. A module is only a name space for kernels that were compiled in; of
// its image only the architectures are read, to check whether the emulated card would load it.
#include <cuda.h>

#include <cstring>

#include "../runtime/block.h"
#include "../runtime/kernels.h"
#include "../runtime/memory.h"
#include "../runtime/not_emulated.h"
#include "../runtime/stream.h"
#include "images.h"

using namespace cuda_emulator;

namespace {

constexpr unsigned opt_in_shared_bytes = 64 * 1024;
// Device memory that is counted for a loaded module.
constexpr std::size_t module_bytes = 1 << 20;
char the_module;

Kernel& kernel_of(CUfunction handle) { return *reinterpret_cast<Kernel*>(handle); }

// The arguments' values, copied out of the caller's variables.
struct Arguments {
  std::vector<unsigned char> bytes;
  std::vector<void*> pointers;
};

std::shared_ptr<Arguments> copy_arguments(const Kernel& kernel, void** sources) {
  auto copy = std::make_shared<Arguments>();
  std::vector<std::size_t> offsets;
  std::size_t end = 0;
  for (const std::size_t size : kernel.parameters.sizes) {
    offsets.push_back(end);
    end += (size + 15) / 16 * 16;
  }
  copy->bytes.resize(end + 16);
  // A vector's storage is aligned for every argument type up to 16 bytes.
  for (std::size_t index = 0; index < offsets.size(); ++index) {
    void* target = copy->bytes.data() + offsets[index];
    std::memcpy(target, sources[index], kernel.parameters.sizes[index]);
    copy->pointers.push_back(target);
  }
  return copy;
}

std::uint64_t address_at(const Pointer& pointer, const Arguments& arguments) {
  std::uint64_t address;
  std::memcpy(&address, static_cast<char*>(arguments.pointers[pointer.argument]) + pointer.offset, sizeof address);
  return address;
}

// A pointer is null or points at device memory that is allocated when the kernel runs.
void require_pointers(const Kernel& kernel, const Arguments& arguments) {
  for (const Pointer& pointer : kernel.parameters.pointers) {
    const std::uint64_t address = address_at(pointer, arguments);
    if (address != 0 && find_memory(address).size == 0) {
      fail("argument %zu of kernel %s has %#llx at byte %zu, which is not device memory", pointer.argument, kernel.name,
           (unsigned long long)address, pointer.offset);
    }
  }
}

CUresult launch(const Kernel& kernel, dim3 grid, dim3 block, unsigned shared_bytes, CUstream stream, void** arguments) {
  const unsigned long long threads = 1ull * block.x * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0) return CUDA_ERROR_INVALID_VALUE;
  if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return CUDA_ERROR_INVALID_VALUE;
  if (threads > 1024 || block.x > 1024 || block.y > 1024 || block.z > 64) return CUDA_ERROR_INVALID_VALUE;
  if (shared_bytes > kernel.dynamic_shared_limit) return CUDA_ERROR_INVALID_VALUE;
  if (threads > kernel.max_threads) return CUDA_ERROR_INVALID_VALUE;
  if (arguments == nullptr && !kernel.parameters.sizes.empty()) return CUDA_ERROR_INVALID_VALUE;
  const auto copy = copy_arguments(kernel, arguments);
  return submit(stream, {kernel.name, [=, &kernel] {
    require_pointers(kernel, *copy);
    run_grid({kernel.name, kernel.call, copy->pointers.data(), grid, block, shared_bytes});
  }});
}

}  // namespace

extern "C" {

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  if (wanted_capability() != 0 && !has_code_for(image, wanted_capability())) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  const auto lock = lock_device();
  charge_memory(module_bytes);
  *module = reinterpret_cast<CUmodule>(&the_module);
  return CUDA_SUCCESS;
}
CUresult cuModuleLoad(CUmodule*, const char*) { not_emulated("cuModuleLoad"); }
CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) { return cuModuleLoadData(module, image); }
CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned, CUjit_option*, void**) {
  return cuModuleLoadData(module, image);
}
CUresult cuModuleUnload(CUmodule) {
  const auto lock = lock_device();
  refund_memory(module_bytes);
  return CUDA_SUCCESS;
}
CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
  *mode = CU_MODULE_EAGER_LOADING;
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule, const char* name) {
  Kernel* kernel = find_kernel(name);
  *function = reinterpret_cast<CUfunction>(kernel);
  return kernel == nullptr ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

CUresult cuFuncGetName(const char** name, CUfunction function) {
  *name = kernel_of(function).name;
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  const auto lock = lock_device();
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      if (value < 0 || static_cast<unsigned>(value) > opt_in_shared_bytes) return CUDA_ERROR_INVALID_VALUE;
      kernel_of(function).dynamic_shared_limit = static_cast<std::size_t>(value);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: return CUDA_SUCCESS;
    default: fail("setting function attribute %d is not emulated", static_cast<int>(attribute));
  }
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
  const auto lock = lock_device();
  const Kernel& kernel = kernel_of(function);
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = static_cast<int>(kernel.max_threads); break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *value = static_cast<int>(kernel.dynamic_shared_limit);
      break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 32; break;
    default: fail("function attribute %d is not emulated", static_cast<int>(attribute));
  }
  return CUDA_SUCCESS;
}

CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int threads, size_t) {
  if (threads <= 0) return CUDA_ERROR_INVALID_VALUE;
  *blocks = threads > 1024 ? 0 : 1024 / threads;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void** arguments,
                        void** extra) {
  const auto lock = lock_device();
  if (extra != nullptr) not_emulated("cuLaunchKernel with packed arguments");
  return launch(kernel_of(function), {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream,
                arguments);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** arguments, void** extra) {
  for (unsigned index = 0; index < config->numAttrs; ++index) {
    const CUlaunchAttributeID attribute = config->attrs[index].id;
    // Programmatic early launch has no effect, since kernels run one after another.
    if (attribute == CU_LAUNCH_ATTRIBUTE_IGNORE || attribute == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION ||
        attribute == CU_LAUNCH_ATTRIBUTE_PRIORITY) {
      continue;
    }
    fail("launch attribute %d is not emulated", static_cast<int>(attribute));
  }
  return cuLaunchKernel(function, config->gridDimX, config->gridDimY, config->gridDimZ, config->blockDimX,
                        config->blockDimY, config->blockDimZ, config->sharedMemBytes, config->hStream, arguments, extra);
}

}  // extern "C"
