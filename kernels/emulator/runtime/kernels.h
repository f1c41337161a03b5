// The kernels that were compiled in, by name.
#pragma once
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

namespace cuda_emulator {

// A pointer in a kernel's arguments: the argument's index, and the offset in bytes.
struct Pointer {
  std::size_t argument, offset;
};

struct Parameters {
  std::vector<std::size_t> sizes;
  std::vector<Pointer> pointers;

  // Not inline: kernels are compiled without exceptions.
  void add(Pointer pointer);
};

struct Kernel {
  const char* name;
  void (*call)(void** arguments);
  Parameters parameters;
  unsigned max_threads;               // from __launch_bounds__, or 1024
  std::size_t dynamic_shared_limit;   // raised by cuFuncSetAttribute
};

// A kernel by its name, or null.
Kernel* find_kernel(const char* name);

// Every translated source registers its kernels with one of these for each.
struct KernelRegistration {
  KernelRegistration(const char* name, void (*call)(void**), Parameters parameters, unsigned max_threads);
};

struct Anything {
  template <typename T>
  void operator()(const T&) const {}
};

// A struct of arguments lists its members with `each` (kernels/cuda/arguments.cuh).
template <typename T, typename = void>
struct ShowsMembers : std::false_type {};
template <typename T>
struct ShowsMembers<T, std::void_t<decltype(std::declval<const T&>().each(Anything{}))>> : std::true_type {};

// Adds the pointers in `value`, which is, or lies in, the argument at `base`.
template <typename T>
void add_pointers(Parameters& to, std::size_t argument, const void* base, const T& value) {
  if constexpr (ShowsMembers<T>::value) {
    value.each([&](const auto& member) { add_pointers(to, argument, base, member); });
  } else if constexpr (std::is_pointer_v<T>) {
    const auto offset = reinterpret_cast<const char*>(&value) - static_cast<const char*>(base);
    to.add({argument, static_cast<std::size_t>(offset)});
  } else {
    static_assert(!std::is_class_v<T> || sizeof(T) < sizeof(void*), "a struct of arguments has `each`");
  }
}

// Decomposes a kernel's signature, so that it can be called with an array of pointers to its arguments.
template <auto kernel>
struct Signature;

template <typename... Arguments, void (*kernel)(Arguments...)>
struct Signature<kernel> {
  static void call(void** arguments) { call_with(arguments, std::index_sequence_for<Arguments...>()); }

  static Parameters parameters() {
    Parameters all{{sizeof(Arguments)...}, {}};
    std::size_t index = 0;
    (add<Arguments>(all, index++), ...);
    return all;
  }

 private:
  template <typename Argument>
  static void add(Parameters& to, std::size_t index) {
    alignas(Argument) static const unsigned char bytes[sizeof(Argument)] = {};
    add_pointers(to, index, bytes, *reinterpret_cast<const Argument*>(bytes));
  }

  template <std::size_t... index>
  static void call_with([[maybe_unused]] void** arguments, std::index_sequence<index...>) {
    kernel(*static_cast<Arguments*>(arguments[index])...);
  }
};

}  // namespace cuda_emulator
