// cuRAND: uniform and normal f32 numbers from a seed. They differ from those of a card's generators.
#include <curand.h>

#include <random>

#include "../runtime/memory.h"
#include "../runtime/stream.h"

using namespace cuda_emulator;

namespace {

// Device memory that is counted for a generator.
constexpr std::size_t generator_bytes = 1 << 20;

struct Generator {
  std::mt19937_64 engine;
  CUstream stream = nullptr;
};

Generator& generator_of(curandGenerator_t handle) { return *reinterpret_cast<Generator*>(handle); }

template <typename Distribution>
curandStatus_t generate(curandGenerator_t handle, float* target, size_t count, Distribution distribution) {
  const auto lock = lock_device();
  Generator& generator = generator_of(handle);
  const CUresult error = submit(generator.stream, {"cuRAND", [=, &generator]() mutable {
    require_device_memory(reinterpret_cast<std::uint64_t>(target), count * sizeof(float), "random numbers");
    for (size_t i = 0; i < count; ++i) target[i] = distribution(generator.engine);
  }});
  return error == CUDA_SUCCESS ? CURAND_STATUS_SUCCESS : CURAND_STATUS_LAUNCH_FAILURE;
}

}  // namespace

extern "C" {

curandStatus_t curandCreateGenerator(curandGenerator_t* handle, curandRngType_t) {
  const auto lock = lock_device();
  charge_memory(generator_bytes);
  *handle = reinterpret_cast<curandGenerator_t>(new Generator);
  return CURAND_STATUS_SUCCESS;
}

// Frees memory, for which it waits for the device.
curandStatus_t curandDestroyGenerator(curandGenerator_t handle) {
  const auto lock = lock_device();
  forbid_on_capturing_device();
  refund_memory(generator_bytes);
  delete &generator_of(handle);
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetStream(curandGenerator_t handle, cudaStream_t stream) {
  generator_of(handle).stream = reinterpret_cast<CUstream>(stream);
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t handle, unsigned long long seed) {
  generator_of(handle).engine.seed(seed);
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandGenerateUniform(curandGenerator_t handle, float* target, size_t count) {
  return generate(handle, target, count, std::uniform_real_distribution<float>(0.0f, 1.0f));
}

curandStatus_t curandGenerateNormal(curandGenerator_t handle, float* target, size_t count, float mean, float deviation) {
  // Generators make normal numbers in pairs.
  if (count % 2 != 0) return CURAND_STATUS_LENGTH_NOT_MULTIPLE;
  return generate(handle, target, count, std::normal_distribution<float>(mean, deviation));
}

}  // extern "C"
