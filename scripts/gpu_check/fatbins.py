"""Device code in executables: nvcc's fat binaries, which hold one ELF file for each architecture, and PTX.

The layout of container and entries is that of NVIDIA's fatbinary_section.h and fatBinaryCtl.h, as `cuobjdump` lists them.
"""

import struct
from collections.abc import Iterator

# Magic number, version 1, and the header's length of 16 bytes; the length of all entries follows.
CONTAINER = struct.pack("<IHH", 0xBA55ED50, 1, 16)
ELF = 2


def keep_only(executable: bytearray, arch: int) -> int:
    """Removes the ELF files of all architectures but `arch` (90 is sm_90) and returns their length in bytes.

    Each fat binary is then as nvcc would have built it for that architecture alone; zeros after it fill its old length. PTX
    stays, so that newer cards can still compile what they need. One that would be empty stays as it is: nvcc makes none, so it
    is not known what the CUDA runtime does with it.
    """
    removed, at = 0, 0
    while (at := executable.find(CONTAINER, at)) >= 0:
        first, end = at + 16, at + 16 + struct.unpack_from("<Q", executable, at + 8)[0]
        found = entries(executable, first, end)
        kept = b"".join(entry for kind, built_for, entry in found if kind != ELF or built_for == arch)
        if kept:
            removed += end - first - len(kept)
            struct.pack_into("<Q", executable, at + 8, len(kept))
            executable[first:end] = kept.ljust(end - first, b"\0")
        at = end
    return removed


def entries(executable: bytearray, at: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """Kind, architecture and bytes of each entry of a fat binary."""
    while at < end:
        kind, _, header, payload = struct.unpack_from("<HHIQ", executable, at)
        (arch,) = struct.unpack_from("<I", executable, at + 28)
        yield kind, arch, bytes(executable[at : at + header + payload])
        at += header + payload
    if at != end:
        raise SystemExit(f"a fat binary ends at {at:#x}, not {end:#x}: its layout has changed")
