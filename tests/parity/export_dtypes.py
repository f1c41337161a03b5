"""torch's conversions of stored numbers: every fp8, and f16, bf16 and f32 of all magnitudes, each to f32 and to bf16.

    python tests/parity/export_dtypes.py tests/parity/golden/dtypes.safetensors
"""

import pathlib
import sys

import torch
from safetensors.torch import save_file


def bits16(dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Ends, zeros, subnormals, infinities and NaNs of a 16-bit dtype, and 300 values of every exponent."""
    edges = [0, 1, 2, 0x7F, 0x80, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0x7C01, 0x7F7F, 0x7F80, 0x7F81, 0x7FFF]
    edges = torch.tensor(edges + [edge | 0x8000 for edge in edges], dtype=torch.int32)
    drawn = torch.randint(0, 1 << 16, (300,), generator=generator, dtype=torch.int32)
    return torch.cat([edges, drawn]).to(torch.uint16).view(dtype)


def bits32(generator: torch.Generator) -> torch.Tensor:
    """The same of f32, with ties between two bf16 values, and values that round to infinity."""
    tops = [0, 1, 0x007F, 0x0080, 0x3F80, 0x3F81, 0x7F7F, 0x7F80, 0x7FC0]
    lows = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
    edges = torch.tensor([sign << 31 | top << 16 | low for sign in (0, 1) for top in tops for low in lows])
    drawn = torch.randint(0, 1 << 32, (300,), generator=generator)
    return torch.cat([edges, drawn]).to(torch.uint32).view(torch.float32)


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    stored = {
        "f8": torch.arange(256, dtype=torch.int32).to(torch.uint8).view(torch.float8_e4m3fn),
        "f8_e5m2": torch.arange(256, dtype=torch.int32).to(torch.uint8).view(torch.float8_e5m2),
        "f16": bits16(torch.float16, generator),
        "bf16": bits16(torch.bfloat16, generator),
        "f32": bits32(generator),
    }
    tensors = dict(stored)
    for name, values in stored.items():
        tensors[f"{name}.as.f32"] = values.to(torch.float32).clone()
        tensors[f"{name}.as.bf16"] = values.to(torch.float32).to(torch.bfloat16)
    save_file(tensors, pathlib.Path(sys.argv[1]))


if __name__ == "__main__":
    main()
