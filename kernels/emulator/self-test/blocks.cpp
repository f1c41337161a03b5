// Tests of blocks: barriers, warp collectives, shared memory, and kernels that break their rules.
#include <algorithm>
#include <cmath>

#include "support.h"

namespace {

void sums_blocks() {
  const auto in = numbers(1000, 1);
  const CUdeviceptr x = upload(in), sums = upload(std::vector<float>(4));
  EXPECT_OK(launch("self_test_block_sum", 4, 256, 0, x, sums, 1000));
  const auto out = download<float>(sums, 4);
  for (std::size_t block = 0; block < 4; ++block) {
    double expected = 0;
    for (std::size_t i = block * 256; i < std::min<std::size_t>(1000, block * 256 + 256); ++i) expected += in[i];
    EXPECT(std::fabs(out[block] - expected) < 1e-4);
  }
}

// 200 of 256 threads take part; the others return before the barrier.
void reverses_through_dynamic_shared_memory() {
  const auto in = numbers(200, 2);
  const CUdeviceptr data = upload(in);
  EXPECT_OK(launch("self_test_reverse", 1, 256, 200 * sizeof(float), data, 200));
  const auto out = download<float>(data, 200);
  for (std::size_t i = 0; i < 200; ++i) EXPECT(out[i] == in[199 - i]);
}

void collects_over_warps() {
  const CUdeviceptr data = upload(std::vector<unsigned>(128));
  EXPECT_OK(launch("self_test_collectives", 1, 32, 0, data));
  const auto out = download<unsigned>(data, 128);
  for (unsigned lane = 0; lane < 32; ++lane) {
    EXPECT(out[lane * 4] == 30);
    EXPECT(out[lane * 4 + 1] == (lane % 16 < 2 ? lane : lane - 2));
    EXPECT(out[lane * 4 + 2] == 0xaaaaaaaau);
    EXPECT(out[lane * 4 + 3] == 31 * 32 / 2);
  }
}

float sum_without_barrier() {
  const CUdeviceptr data = upload(std::vector<float>(64));
  EXPECT_OK(launch("self_test_missing_barrier", 1, 64, 0, data));
  float sum = 0;
  for (const float value : download<float>(data, 64)) sum += value;
  return sum;
}

void refuses_impossible_launches() {
  const CUdeviceptr data = upload(std::vector<float>(64));
  EXPECT(launch("self_test_reverse", 1, 1025, 0, data, 1) == CUDA_ERROR_INVALID_VALUE);
  EXPECT(launch("self_test_reverse", 0, 32, 0, data, 1) == CUDA_ERROR_INVALID_VALUE);
  EXPECT(launch("self_test_reverse", 1, 32, 49 << 10, data, 1) == CUDA_ERROR_INVALID_VALUE);
  // Beyond its __launch_bounds__.
  EXPECT(launch("self_test_block_sum", 1, 512, 0, data, data, 64) == CUDA_ERROR_INVALID_VALUE);
  CUmodule module;
  CUfunction function;
  EXPECT_OK(cuModuleLoadData(&module, ""));
  EXPECT(cuModuleGetFunction(&function, module, "no_such_kernel") == CUDA_ERROR_NOT_FOUND);
}

}  // namespace

void test_blocks() {
  sums_blocks();
  reverses_through_dynamic_shared_memory();
  collects_over_warps();
  refuses_impossible_launches();
  // The missing barrier does not show while the writing thread runs first.
  const char* order = std::getenv("CUDA_EMULATOR_ORDER");
  const bool falling = order != nullptr && std::string(order) == "falling";
  EXPECT(sum_without_barrier() == (falling ? 1.0f : 64.0f));
  expect_abort("kernel self_test_diverge diverges", [] { launch("self_test_diverge", 1, 64, 0); });
  expect_abort("kernel self_test_overrun_shared writes beyond its 256 bytes of dynamic shared memory",
               [] { launch("self_test_overrun_shared", 1, 64, 256); });
}
