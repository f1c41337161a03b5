// The kernels that were compiled in, by name.
#pragma once
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

namespace cuda_emulator {

struct Parameter {
  std::size_t size;
  bool is_pointer;
  bool to_constants;
};

struct Kernel {
  const char* name;
  void (*call)(void** arguments);
  std::vector<Parameter> parameters;
  unsigned max_threads;               // from __launch_bounds__, or 1024
  std::size_t dynamic_shared_limit;   // raised by cuFuncSetAttribute
};

// A kernel by its name, or null.
Kernel* find_kernel(const char* name);

// Every translated source registers its kernels with one of these for each.
struct KernelRegistration {
  KernelRegistration(const char* name, void (*call)(void**), std::vector<Parameter> parameters, unsigned max_threads);
};

// Takes a kernel's signature apart, so that it can be called with an array of pointers to its arguments.
template <auto kernel>
struct Signature;

template <typename... Arguments, void (*kernel)(Arguments...)>
struct Signature<kernel> {
  static void call(void** arguments) { call_with(arguments, std::index_sequence_for<Arguments...>()); }

  static std::vector<Parameter> parameters() {
    return {Parameter{sizeof(Arguments), std::is_pointer<Arguments>::value,
                      std::is_const<std::remove_pointer_t<Arguments>>::value}...};
  }

 private:
  template <std::size_t... index>
  static void call_with([[maybe_unused]] void** arguments, std::index_sequence<index...>) {
    kernel(*static_cast<Arguments*>(arguments[index])...);
  }
};

}  // namespace cuda_emulator
