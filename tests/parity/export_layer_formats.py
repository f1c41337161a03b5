"""Write golden/checkpoint/layer_formats.safetensors: layers in each format of ComfyUI's mixed precision that latentd reads.

    python tests/parity/export_layer_formats.py

Needs comfy_kitchen==0.2.40, which has ComfyUI's quantization.

NAME.weight, NAME.weight_scale, NAME.weight_scale_2 as ComfyUI saves a layer; NAME.comfy_quant [n] u8 is its JSON
NAME.values [rows, columns] bf16     what comfy_kitchen dequantizes them to. Scales of tensors are powers of two, so that bf16 is exact.
"""

import json
import pathlib

import torch
from comfy_kitchen.backends.eager import quantization as ck
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).parent / "golden" / "checkpoint" / "layer_formats.safetensors"


def drawn(rows: int, columns: int, seed: int) -> torch.Tensor:
    """Rows and blocks of very different sizes."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(rows, columns, generator=generator)
    return normal * torch.exp2(torch.randint(-4, 4, (rows, columns // 16), generator=generator)).repeat_interleave(16, 1)


def layers() -> dict[str, tuple[str, dict[str, torch.Tensor], torch.Tensor]]:
    """Format, tensors and values of each layer."""
    out = {}
    number = torch.tensor(2.0**-6)
    # More than a tile of 128 rows, and more than one of 4 blocks.
    packed, blocks = ck.quantize_nvfp4(drawn(136, 80, 1), number)
    values = ck.dequantize_nvfp4(packed, number, blocks, torch.float32)
    out["nvfp4"] = "nvfp4", {"weight": packed, "weight_scale": blocks, "weight_scale_2": number}, values
    fp8, blocks = ck.quantize_mxfp8(drawn(32, 160, 2))
    out["mxfp8"] = "mxfp8", {"weight": fp8, "weight_scale": blocks}, ck.dequantize_mxfp8(fp8, blocks, torch.float32)
    for name, dtype in (("float8_e4m3fn", torch.float8_e4m3fn), ("float8_e5m2", torch.float8_e5m2)):
        fp8 = ck.quantize_per_tensor_fp8(drawn(4, 32, 3), number, dtype)
        values = ck.dequantize_per_tensor_fp8(fp8, number, torch.float32)
        out[name] = name, {"weight": fp8, "weight_scale": number}, values
    int8 = (drawn(4, 32, 4) * 8).round().clamp(-128, 127).to(torch.int8)
    rows = torch.exp2(torch.arange(-8.0, -4.0))[:, None]
    for name, scale in (("int8", number), ("int8_rows", rows)):
        out[name] = "int8_tensorwise", {"weight": int8, "weight_scale": scale}, ck.dequantize_int8_simple(int8, scale)
    return out


def main() -> None:
    tensors = {}
    for name, (kind, stored, values) in layers().items():
        assert torch.equal(values.bfloat16().float(), values) and values.abs().max() > 0, name
        tensors |= {f"{name}.{key}": tensor.clone() for key, tensor in stored.items()}
        tensors[f"{name}.values"] = values.bfloat16()
        tensors[f"{name}.comfy_quant"] = torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)
    save_file(dict(sorted(tensors.items())), OUT)
    OUT.chmod(0o644)
    print(OUT, OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
