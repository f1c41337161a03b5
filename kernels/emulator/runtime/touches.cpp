// Watches accesses to device memory by page protection.
#include "touches.h"

#include <sys/mman.h>

#include <map>

#include "memory.h"
#include "not_emulated.h"

namespace cuda_emulator {
namespace {

bool watching = false;
// Pages accessed since the last call, and whether they were written. Filled by the fault handler, which runs on accesses to
// device memory and so never inside of the allocator.
std::map<std::uint64_t, bool> touched;

void protect(std::uint64_t from, std::uint64_t to, int access) {
  if (mprotect(reinterpret_cast<void*>(from), to - from, access) != 0) fail("cannot watch device memory");
}

void protect_all(int access) {
  for (const auto& [from, to] : backed_pages()) protect(from, to, access);
}

}  // namespace

TouchWatch::TouchWatch() {
  if (watching) fail("device memory is watched already");
  protect_all(PROT_NONE);
  touched.clear();
  watching = true;
}

TouchWatch::~TouchWatch() {
  watching = false;
  protect_all(PROT_READ | PROT_WRITE);
}

std::vector<Touch> TouchWatch::take() {
  std::vector<Touch> touches;
  for (auto run = touched.begin(); run != touched.end();) {
    const std::uint64_t from = run->first;
    std::uint64_t to = from;
    for (; run != touched.end() && run->first == to; ++run, to += page_bytes) touches.push_back({to, run->second});
    protect(from, to, PROT_NONE);
  }
  touched.clear();
  return touches;
}

bool watches_touches() { return watching; }

bool note_touch(std::uint64_t address) {
  const std::uint64_t page = address / page_bytes * page_bytes;
  if (!watching || !is_backed(page)) return false;
  const auto [found, is_new] = touched.emplace(page, false);
  if (!is_new) {
    // The page is readable already, so this is a write.
    if (found->second) return false;
    found->second = true;
  }
  protect(page, page + page_bytes, is_new ? PROT_READ : PROT_READ | PROT_WRITE);
  return true;
}

}  // namespace cuda_emulator
