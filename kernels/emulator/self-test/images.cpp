// Tests that modules load if they have code for the card that the environment selects.
#include <cstdint>
#include <cstring>

#include "support.h"

namespace {

struct Code {
  uint16_t kind;  // 1 PTX, 2 machine code
  uint32_t architecture;
  uint64_t flags;
};

template <typename T>
void put(std::vector<unsigned char>& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// A fatbin with 8 bytes of code an entry.
std::vector<unsigned char> fatbin(const std::vector<Code>& codes) {
  std::vector<unsigned char> bytes(16 + codes.size() * 72);
  put<uint32_t>(bytes, 0, 0xba55ed50);
  put<uint16_t>(bytes, 6, 16);
  put<uint64_t>(bytes, 8, codes.size() * 72);
  std::size_t at = 16;
  for (const Code& code : codes) {
    put(bytes, at, code.kind);
    put<uint32_t>(bytes, at + 4, 64);
    put<uint64_t>(bytes, at + 8, 8);
    put(bytes, at + 28, code.architecture);
    put(bytes, at + 40, code.flags);
    at += 72;
  }
  return bytes;
}

CUresult load(const char* capability, const void* image) {
  setenv("CUDA_EMULATOR_CAPABILITY", capability, 1);
  CUmodule module;
  const CUresult answer = cuModuleLoadData(&module, image);
  unsetenv("CUDA_EMULATOR_CAPABILITY");
  return answer;
}

void expect_loads(const void* image, const std::vector<const char*>& loads, const std::vector<const char*>& refused) {
  for (const char* capability : loads) EXPECT_OK(load(capability, image));
  for (const char* capability : refused) EXPECT(load(capability, image) == CUDA_ERROR_NO_BINARY_FOR_GPU);
  CUmodule module;
  EXPECT_OK(cuModuleLoadData(&module, image));
}

}  // namespace

void test_images() {
  constexpr uint64_t alone = 0x100011, family = 0x200011;
  expect_loads(fatbin({{2, 80, 0x11}}).data(), {"8.0", "8.6", "8.9"}, {"7.5", "9.0", "12.0"});
  expect_loads(fatbin({{2, 89, 0x11}, {1, 90, 0x8011}}).data(), {"8.9", "9.0", "10.0", "12.0"}, {"8.0", "8.6"});
  expect_loads(fatbin({{2, 90, alone}}).data(), {"9.0"}, {"8.9", "10.0"});
  expect_loads(fatbin({{2, 100, family}}).data(), {"10.0", "10.3"}, {"9.0", "12.0"});
  expect_loads(".version 9.0\n.target sm_80\n", {"8.0", "8.9", "9.0", "12.0"}, {"7.5"});
  expect_loads(".version 9.0\n.target sm_90a\n", {"9.0"}, {"8.0", "10.0", "12.0"});
}
