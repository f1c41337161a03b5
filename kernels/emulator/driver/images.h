// The emulated card's compute capability, and whether a module's image has code for it.
#pragma once

namespace cuda_emulator {

// Ten times the major compute capability and the minor, or 0 if the environment names none: then every image is loaded.
int wanted_capability();

// Whether a card of a capability loads an image: a fatbin with machine code for it or PTX that it can compile, or PTX
// as text.
bool has_code_for(const void* image, int capability);

}  // namespace cuda_emulator
