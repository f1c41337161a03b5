// Finds the pages of device memory that work reads and writes: protects all of it and unprotects a page when it is accessed.
#pragma once
#include <cstdint>
#include <vector>

namespace cuda_emulator {

struct Touch {
  std::uint64_t page;
  bool writes;
};

// While one exists, every page of device memory is protected until it is accessed. Only one may exist, under the device's
// lock.
class TouchWatch {
 public:
  TouchWatch();
  ~TouchWatch();
  TouchWatch(const TouchWatch&) = delete;
  TouchWatch& operator=(const TouchWatch&) = delete;

  // The pages accessed since the last call.
  std::vector<Touch> take();
};

bool watches_touches();

// Records a faulting access and unprotects its page; false if the page was not protected by the watch.
bool note_touch(std::uint64_t address);

}  // namespace cuda_emulator
