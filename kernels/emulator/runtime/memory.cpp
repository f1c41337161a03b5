// Device memory in a large range of reserved addresses, which are allocated in ascending order and never reused.
#include "memory.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "block.h"
#include "not_emulated.h"
#include "touches.h"

namespace cuda_emulator {
namespace {

constexpr std::uint64_t page = page_bytes, alignment = 256, reserved_bytes = std::uint64_t{4} << 40;
constexpr unsigned char poison = 0xff;

std::uint64_t arena, next_free;
std::map<std::uint64_t, std::size_t>& live() {
  static std::map<std::uint64_t, std::size_t> allocations;
  return allocations;
}
std::size_t used, most_used;
struct sigaction previous_fault[2];

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

void reserve_arena() {
  void* mapped = mmap(nullptr, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) fail("cannot reserve %llu bytes of addresses", (unsigned long long)reserved_bytes);
  arena = next_free = reinterpret_cast<std::uint64_t>(mapped);
}

std::uint64_t first_page(std::uint64_t address) { return address / page * page; }
std::uint64_t end_page(std::uint64_t address, std::size_t size) { return round_up(address + size, page); }

void check_zone(std::uint64_t from, std::uint64_t to, const char* side, std::uint64_t address, std::size_t size) {
  static const std::vector<unsigned char> intact(page + alignment, poison);
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  if (std::memcmp(bytes, intact.data(), to - from) == 0) return;
  for (std::uint64_t offset = 0; offset < to - from; ++offset) {
    if (bytes[offset] != poison) {
      const long long distance = static_cast<long long>(from + offset - address);
      fail("something wrote %s an allocation of %zu bytes, at offset %lld", side, size, distance);
    }
  }
}

void check_guard(std::uint64_t address, std::size_t size) {
  check_zone(first_page(address), address, "before", address, size);
  check_zone(address + size, end_page(address, size), "behind", address, size);
}

void report_fault(int number, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<std::uint64_t>(info->si_addr);
  if (note_touch(address)) return;
  const int slot = number == SIGSEGV ? 0 : 1;
  if (arena != 0 && address >= arena && address < arena + reserved_bytes) {
    const char* kernel = running_kernel();
    auto near = live().upper_bound(address);
    if (near != live().begin()) --near;
    if (near != live().end()) {
      const long long offset = static_cast<long long>(address - near->first);
      fail("%s%s touches device memory that is not allocated: offset %lld of the nearest allocation, of %zu bytes",
           kernel == nullptr ? "the host" : "kernel ", kernel == nullptr ? "" : kernel, offset, near->second);
    }
    fail("kernel %s touches device memory, of which none is allocated", kernel == nullptr ? "(none)" : kernel);
  }
  if (const char* kernel = running_kernel()) {
    fail("kernel %s touches address %p, which is not device memory", kernel, info->si_addr);
  }
  if (previous_fault[slot].sa_flags & SA_SIGINFO) {
    previous_fault[slot].sa_sigaction(number, info, context);
  } else {
    signal(number, SIG_DFL);
    raise(number);
  }
}

}  // namespace

std::uint64_t reserve_memory(std::size_t size) {
  if (arena == 0) reserve_arena();
  const std::uint64_t begin = next_free;
  const std::uint64_t pages = round_up(size, alignment) + page - 1;
  const std::uint64_t end = begin + round_up(pages, page);
  if (end + page > arena + reserved_bytes) fail("the emulated device's addresses are used up");
  next_free = end + page;
  return end - round_up(size, alignment);
}

bool commit_memory(std::uint64_t address, std::size_t size) {
  if (used + size > device_memory_bytes) return false;
  const std::uint64_t from = first_page(address), to = end_page(address, size);
  if (mprotect(reinterpret_cast<void*>(from), to - from, PROT_READ | PROT_WRITE) != 0) return false;
  std::memset(reinterpret_cast<void*>(from), poison, to - from);
  live()[address] = size;
  charge_memory(size);
  return true;
}

bool release_memory(std::uint64_t address) {
  const auto found = live().find(address);
  if (found == live().end()) return false;
  const std::size_t size = found->second;
  check_guard(address, size);
  const std::uint64_t from = first_page(address), to = end_page(address, size);
  void* dropped = mmap(reinterpret_cast<void*>(from), to - from, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (dropped == MAP_FAILED) fail("cannot release memory");
  live().erase(found);
  refund_memory(size);
  return true;
}

Allocation find_memory(std::uint64_t address) {
  auto found = live().upper_bound(address);
  if (found == live().begin()) return {0, 0};
  --found;
  return address - found->first <= found->second ? Allocation{found->first, found->second} : Allocation{0, 0};
}

void require_device_memory(std::uint64_t address, std::size_t size, const char* what) {
  if (size == 0) return;
  const Allocation allocation = find_memory(address);
  if (allocation.size == 0) fail("%s: %#llx is not device memory", what, (unsigned long long)address);
  const std::size_t offset = address - allocation.address;
  if (size > allocation.size - offset) {
    fail("%s: %zu bytes at offset %zu overrun an allocation of %zu bytes", what, size, offset, allocation.size);
  }
}

void check_guards() {
  // Reading the guard zone would count as an access. The next check covers it.
  if (watches_touches()) return;
  for (const auto& [address, size] : live()) check_guard(address, size);
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> backed_pages() {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> pages;
  for (const auto& [address, size] : live()) pages.emplace_back(first_page(address), end_page(address, size));
  return pages;
}

bool is_backed(std::uint64_t page_address) {
  auto found = live().lower_bound(page_address + page);
  if (found == live().begin()) return false;
  --found;
  return page_address < end_page(found->first, found->second);
}

std::size_t used_memory() { return used; }
std::size_t most_used_memory() { return most_used; }
void reset_most_used_memory() { most_used = used; }

void charge_memory(std::size_t size) {
  used += size;
  most_used = std::max(most_used, used);
}

void refund_memory(std::size_t size) { used -= size; }

void install_fault_reporter() {
  struct sigaction action = {};
  action.sa_sigaction = report_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &previous_fault[0]);
  sigaction(SIGBUS, &action, &previous_fault[1]);
}

}  // namespace cuda_emulator
