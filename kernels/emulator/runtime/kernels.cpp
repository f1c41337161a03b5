// The table of kernels.
#include "kernels.h"

#include <map>
#include <string>

#include "not_emulated.h"

namespace cuda_emulator {
namespace {

std::map<std::string, Kernel>& table() {
  static std::map<std::string, Kernel> kernels;
  return kernels;
}

}  // namespace

Kernel* find_kernel(const char* name) {
  const auto found = table().find(name);
  return found == table().end() ? nullptr : &found->second;
}

void Parameters::add(Pointer pointer) { pointers.push_back(pointer); }

KernelRegistration::KernelRegistration(const char* name, void (*call)(void**), Parameters parameters,
                                       unsigned max_threads) {
  const Kernel kernel{name, call, std::move(parameters), max_threads, 48 * 1024};
  if (!table().emplace(name, kernel).second) fail("two kernels are called %s", name);
}

}  // namespace cuda_emulator

// Called by the stub (in C) of every library function that is not emulated.
extern "C" [[noreturn]] void cuda_emulator_not_emulated(const char* name) { cuda_emulator::not_emulated(name); }
