"""Write golden/gguf/: tensors of every type that GGUF files have here, a model with two GGUF files, and diffusers' results.

    python tests/parity/export_gguf.py

Versions as in export_golden.py, with gguf 0.19.0, ggml's own package: it packs and unpacks the blocks.

golden/gguf/
    types.gguf         a tensor of each type, named after it; K-quants are random blocks
    types.safetensors  their values, f32
    model/             a model in the diffusers layout with transformer/diffusion_pytorch_model.gguf in the original layout's
                       names, as ComfyUI-GGUF writes it, and text_encoder_3/model.gguf in llama.cpp's
    case.json, golden.safetensors   a request; step.NN.latents f32, image.u8, of diffusers with the unpacked values
"""

import zlib

import export_checkpoint as ec
import export_golden as eg
import gguf
import make_model as mm
import numpy as np
import torch
from diffusers.loaders import single_file_utils as sfu
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize
from make_model import Clip, Options, T5
from safetensors.torch import load_file

HERE = eg.GOLDEN / "gguf"
OPTIONS = Options(
    seed=301, heads=2, head_dim=32, depth=2, dual=(0,), joint_dim=64, pos_embed_max_size=12,
    clip_l=Clip(16, 2, 2, 32, 16), clip_g=Clip(24, 4, 3, 48, 16), t5=T5(2, 32, 2, 96),
)  # fmt: skip
REQUEST = dict(
    prompt="A red fox beside the lighthouse!", negative="blurry", width=64, height=48, steps=3, seed=11, guidance=3.5,
    num_images=1, max_sequence_length=64,
)  # fmt: skip
PACKED = [Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.F16, Type.BF16]
# Where the f16 scales of a block of 256 are.
SCALES = {Type.Q2_K: (80, 82), Type.Q3_K: (108,), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208,)}
T5_NAMES = {
    "SelfAttention.q": "attn_q", "SelfAttention.k": "attn_k", "SelfAttention.v": "attn_v", "SelfAttention.o": "attn_o",
    "SelfAttention.relative_attention_bias": "attn_rel_b", "layer.0.layer_norm": "attn_norm", "wi_0": "ffn_gate",
    "wi_1": "ffn_up", "wo": "ffn_down", "layer.1.layer_norm": "ffn_norm",
}  # fmt: skip


def random_blocks(kind: Type, rows: int) -> np.ndarray:
    """`rows` blocks of 256 values."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    rng = np.random.default_rng(zlib.crc32(kind.name.encode()))
    blocks = rng.integers(0, 256, (rows, size), dtype=np.uint8)
    for place, offset in enumerate(SCALES[kind]):
        scale = np.full(rows, 2.0 ** -(6 + place), np.float16) * np.arange(1, rows + 1, dtype=np.float16)
        blocks[:, offset : offset + 2] = scale.view(np.uint8).reshape(rows, 2)
    return blocks


class Writer:
    """A GGUF file, and what its tensors are unpacked."""

    def __init__(self, path, architecture: str):
        self.file, self.values = gguf.GGUFWriter(path, architecture), {}
        self.path = path

    def add(self, name: str, packed: np.ndarray, kind: Type) -> None:
        values = dequantize(packed, kind)
        self.values[name] = torch.from_numpy(np.ascontiguousarray(values))
        self.file.add_tensor(name, packed, raw_dtype=kind)

    def close(self) -> None:
        self.file.write_header_to_file()
        self.file.write_kv_data_to_file()
        self.file.write_tensors_to_file()
        self.file.close()
        self.path.chmod(0o644)


def kind_of(index: int, shape: tuple) -> Type:
    """Matrices are packed where their rows are whole blocks; the rest is f32, as converters leave it, or f16."""
    if len(shape) == 2 and shape[-1] % 32 == 0:
        return PACKED[index % len(PACKED)]
    return Type.F16 if len(shape) > 2 else Type.F32


def types() -> None:
    writer = Writer(HERE / "types.gguf", "sd3")
    normal = torch.randn(3, 256, generator=torch.Generator().manual_seed(5)).numpy()
    for kind in [Type.F32, *PACKED]:
        writer.add(kind.name, quantize(normal, kind), kind)
    for kind in SCALES:
        writer.add(kind.name, random_blocks(kind, 3), kind)
    writer.close()
    eg.save(HERE / "types.safetensors", writer.values)


def transformer() -> dict[str, torch.Tensor]:
    """Writes the transformer; its tensors as diffusers names them."""
    folder = HERE / "model" / "transformer"
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    writer = Writer(folder / "diffusion_pytorch_model.gguf", "sd3")
    for index, (name, value) in enumerate(ec.draw(ec.transformer_shapes(OPTIONS)).items()):
        kind = kind_of(index, value.shape)
        writer.add(name, quantize(value.numpy(), kind), kind)
    writer.close()
    return sfu.convert_sd3_transformer_checkpoint_to_diffusers(dict(writer.values))


def t5() -> dict[str, torch.Tensor]:
    """Writes T5 with the values that it has; its tensors as transformers names them."""
    folder, out = HERE / "model" / "text_encoder_3", {}
    stored = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    writer = Writer(folder / "model.gguf", "t5encoder")
    for index, (name, value) in enumerate(sorted(stored.items())):
        if name == "encoder.embed_tokens.weight":
            continue
        if name.startswith("encoder.block."):
            block = name.split(".")[2]
            layer = next(theirs for ours, theirs in T5_NAMES.items() if name.endswith(f"{ours}.weight"))
            theirs = f"enc.blk.{block}.{layer}.weight"
        else:
            theirs = {"shared.weight": "token_embd.weight", "encoder.final_layer_norm.weight": "enc.output_norm.weight"}[name]
        kind = kind_of(index, value.shape)
        writer.add(theirs, quantize(value.float().numpy(), kind), kind)
        out[name] = writer.values[theirs]
    writer.close()
    return out


def load(module: torch.nn.Module, values: dict[str, torch.Tensor]) -> None:
    state = module.state_dict()
    for name, value in values.items():
        assert state[name].shape == value.shape, name
        state[name] = value.to(state[name].dtype)
    if "encoder.embed_tokens.weight" in state:
        state["encoder.embed_tokens.weight"] = state["shared.weight"]
    module.load_state_dict(state)


def main() -> None:
    mm.write(HERE / "model", OPTIONS)
    pipe = mm.load(HERE / "model")
    types()
    load(pipe.transformer, transformer())
    load(pipe.text_encoder_3, t5())
    with torch.no_grad():
        recorder, images = eg.run(pipe, REQUEST)
    eg.check("gguf", {"image.u8": images, "noise": recorder.latents[0], "last.latents": recorder.latents[-1]}, images)
    out = {f"step.{i:02}.latents": v for i, v in enumerate(recorder.latents)} | {"image.u8": images}
    eg.save(HERE / "golden.safetensors", out)
    mm.tok.dump(HERE / "case.json", REQUEST)


if __name__ == "__main__":
    main()
