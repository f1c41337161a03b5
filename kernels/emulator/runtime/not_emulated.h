// Aborts with the name of a function that is not emulated, instead of computing a wrong result.
#pragma once
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace cuda_emulator {

[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char* format, ...) {
  std::fputs("cuda emulator: ", stderr);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::abort();
}

[[noreturn]] inline void not_emulated(const char* name) { fail("%s is not emulated", name); }

}  // namespace cuda_emulator
