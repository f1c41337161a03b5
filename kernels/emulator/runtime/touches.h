// Which pages of device memory work reads and writes, seen by taking all of it away and giving back what is asked for.
#pragma once
#include <cstdint>
#include <vector>

namespace cuda_emulator {

struct Touch {
  std::uint64_t page;
  bool writes;
};

// While one exists, every page of device memory is out of reach until it is touched. One at a time, under the device's
// lock.
class TouchWatch {
 public:
  TouchWatch();
  ~TouchWatch();
  TouchWatch(const TouchWatch&) = delete;
  TouchWatch& operator=(const TouchWatch&) = delete;

  // What was touched since the last call.
  std::vector<Touch> take();
};

bool watches_touches();

// Notes an access that the operating system stopped and lets it happen; false if it is not the watch that stopped it.
bool note_touch(std::uint64_t address);

}  // namespace cuda_emulator
