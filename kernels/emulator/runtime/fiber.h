// Fibers: stacks between which one host thread switches, one for every device thread that waits.
#pragma once

namespace cuda_emulator {

struct Fiber {
  void* stack_pointer;  // saved when it is switched away; invalid while it runs
  void* platform;       // state of platforms without our own switch
};

// A fiber that calls `entry` when it is first switched to. `entry` must never return. Fibers are never freed.
Fiber* create_fiber(void (*entry)());

// Switches from `from`, which is running, to `to`.
void switch_fiber(Fiber* from, Fiber* to);

}  // namespace cuda_emulator
