// Reads the architectures of a module's image, and nothing else; the kernels are compiled in.
#include "images.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace cuda_emulator {

namespace {

// A fatbin begins with the first header, followed by the entries; each is its header and then its code.
struct FatbinHeader {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes;
};
struct EntryHeader {
  uint16_t kind, version;
  uint32_t header_bytes;
  uint64_t bytes;
  uint32_t unused[3];
  uint32_t architecture;
  uint32_t more[2];
  uint64_t flags;
};
static_assert(sizeof(FatbinHeader) == 16 && sizeof(EntryHeader) == 48, "as nvcc 13.0 writes them");

constexpr uint32_t magic = 0xba55ed50;
constexpr uint16_t ptx = 1;
constexpr uint64_t this_architecture_alone = 0x100000, this_family_alone = 0x200000;

bool runs(bool is_ptx, int architecture, bool alone, bool family, int capability) {
  if (alone) return architecture == capability;
  if (is_ptx && !family) return architecture <= capability;
  return architecture / 10 == capability / 10 && architecture <= capability;
}

bool fatbin_has_code(const char* image, int capability) {
  FatbinHeader header;
  std::memcpy(&header, image, sizeof header);
  const char* const end = image + header.header_bytes + header.bytes;
  EntryHeader entry;
  for (const char* at = image + header.header_bytes; at + sizeof entry <= end; at += entry.header_bytes + entry.bytes) {
    std::memcpy(&entry, at, sizeof entry);
    if (runs(entry.kind == ptx, static_cast<int>(entry.architecture), entry.flags & this_architecture_alone,
             entry.flags & this_family_alone, capability)) {
      return true;
    }
  }
  return false;
}

bool text_has_code(const char* text, int capability) {
  const char* target = std::strstr(text, ".target sm_");
  if (target == nullptr) return false;
  char* letter;
  const long architecture = std::strtol(target + std::strlen(".target sm_"), &letter, 10);
  return runs(true, static_cast<int>(architecture), *letter == 'a', *letter == 'f', capability);
}

}  // namespace

bool has_code_for(const void* image, int capability) {
  uint32_t first;
  std::memcpy(&first, image, sizeof first);
  const char* bytes = static_cast<const char*>(image);
  return first == magic ? fatbin_has_code(bytes, capability) : text_has_code(bytes, capability);
}

}  // namespace cuda_emulator
