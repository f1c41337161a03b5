// Which card the emulator passes for, and whether that one has code in a module's image.
#pragma once

namespace cuda_emulator {

// Ten times the major compute capability and the minor, or 0 if the environment names none: then every image loads.
int wanted_capability();

// Whether a card of a capability loads an image: a fatbin with machine code for it or PTX that it can compile, or PTX
// as text.
bool has_code_for(const void* image, int capability);

}  // namespace cuda_emulator
