// Fibers: stacks between which one host thread switches, one for every device thread that waits.
#pragma once

namespace cuda_emulator {

struct Fiber {
  void* stack_pointer;  // where it left off; meaningless while it runs
  void* platform;       // what a platform without our own switch needs
};

// A fiber that calls `entry` when it is first switched to. `entry` must never return. Fibers live for ever.
Fiber* create_fiber(void (*entry)());

// Leaves `from`, which is running, and goes on in `to`.
void switch_fiber(Fiber* from, Fiber* to);

}  // namespace cuda_emulator
