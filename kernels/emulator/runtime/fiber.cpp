// Fibers: a few instructions on x86-64, ucontext elsewhere.
#include "fiber.h"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>

#include "not_emulated.h"

namespace cuda_emulator {
namespace {

constexpr std::size_t stack_bytes = 256 * 1024, spread_bytes = 32 * 1024;

// The upper end of a stack above a protected page, so that an overflow faults instead of overwriting its neighbour. Each
// ends at another offset in its pages; otherwise all would share a few lines of the CPU's cache.
char* map_stack_end() {
  static std::size_t stacks = 0;
  const std::size_t offset = stacks++ * 320 % spread_bytes;
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* mapped = mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED || mprotect(mapped, page, PROT_NONE) != 0) {
    fail("no memory for a fiber's stack");
  }
  return static_cast<char*>(mapped) + page + stack_bytes - offset;
}

}  // namespace

#if defined(__x86_64__)

extern "C" void cuda_emulator_switch(void** save, void* load);
asm(R"(
  .text
  .hidden cuda_emulator_switch
  .globl cuda_emulator_switch
  .type cuda_emulator_switch, @function
cuda_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size cuda_emulator_switch, .-cuda_emulator_switch
)");

Fiber* create_fiber(void (*entry)()) {
  void** top = reinterpret_cast<void**>(map_stack_end());
  *--top = nullptr;  // keeps the alignment a call has; entry never returns to it
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  return new Fiber{top, nullptr};
}

void switch_fiber(Fiber* from, Fiber* to) { cuda_emulator_switch(&from->stack_pointer, to->stack_pointer); }

#else

Fiber* create_fiber(void (*entry)()) {
  auto* context = new ucontext_t;
  getcontext(context);
  context->uc_stack.ss_size = stack_bytes - spread_bytes;
  context->uc_stack.ss_sp = map_stack_end() - context->uc_stack.ss_size;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return new Fiber{nullptr, context};
}

void switch_fiber(Fiber* from, Fiber* to) {
  if (from->platform == nullptr) from->platform = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(from->platform), static_cast<ucontext_t*>(to->platform));
}

#endif

}  // namespace cuda_emulator
