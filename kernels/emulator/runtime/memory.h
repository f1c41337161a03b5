// Device memory. Every allocation ends at most 255 bytes before a protected page; the rest of its pages
// around it is a guard zone. Addresses are never reused. Fresh memory holds NaN in every format.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace cuda_emulator {

constexpr std::size_t device_memory_bytes = std::size_t{8} << 30;
constexpr std::uint64_t page_bytes = 4096;

// Reserves addresses for `size` bytes, which cannot be accessed yet.
std::uint64_t reserve_memory(std::size_t size);

// Backs reserved addresses with fresh memory; false when the device is full.
bool commit_memory(std::uint64_t address, std::size_t size);

// Checks the guard zones and frees the memory; false if there is none at this address.
bool release_memory(std::uint64_t address);

struct Allocation {
  std::uint64_t address;
  std::size_t size;
};

// The live allocation that `address` points into or just past, or one of size 0.
Allocation find_memory(std::uint64_t address);

// Aborts unless all of the range is inside one allocation.
void require_device_memory(std::uint64_t address, std::size_t size, const char* what);

// Aborts if any allocation's guard zone was written to.
void check_guards();

// The pages that live allocations lie in, from beginning to end, and whether one of them is such a page.
std::vector<std::pair<std::uint64_t, std::uint64_t>> backed_pages();
bool is_backed(std::uint64_t page);

// Bytes in use, and the most that were since the peak was last reset.
std::size_t used_memory();
std::size_t most_used_memory();
void reset_most_used_memory();

// Memory that is counted for streams, modules, graphs and handles, so that a program that does not destroy them is seen to
// leak.
void charge_memory(std::size_t size);
void refund_memory(std::size_t size);

// Reports the kernel and the nearest allocation when an access outside of any allocation faults.
void install_fault_reporter();

}  // namespace cuda_emulator
