"""Write a model of the shapes of SD3.5 Large with random weights in bf16 (27 GB), to measure memory modes.

    python benches/large_model.py DIR

The transformer has 16.3 GB, T5 9.5 GB. Nothing of that is in memory at any time. Tokenizers are small ones of our own. The
environment is that of tests/parity/make_model.py.
"""

import argparse
import json
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "parity"))

import make_model as make
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

LARGE = make.Options(
    heads=38,
    head_dim=64,
    depth=38,
    joint_dim=4096,
    clip_l=make.Clip(768, 12, 12, 3072, 768),
    clip_g=make.Clip(1280, 20, 32, 5120, 1280),
    t5=make.T5(64, 64, 24, 10240),
    pos_embed_max_size=192,
    sample_size=128,
    vae_channels=(128, 256, 512, 512),
    vae_layers=2,
    norm_groups=32,
)
VOCABULARIES = {"clip_vocab": 49408, "t5_vocab": 32128}

# Values that are repeated: not a power of two, so that no two tensors begin with the same ones.
BLOCK = 4_000_037


def write_weights(path: pathlib.Path, tensors: dict[str, tuple[int, ...]], block: torch.Tensor) -> int:
    """Write a safetensors file of tensors of these shapes; returns its bytes."""
    header, end = {}, 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    values = block.view(torch.uint8).numpy().tobytes()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for first in range(0, end, len(values)):
            file.write(values[: end - first])
    return path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    directory = parser.parse_args().directory
    directory.mkdir(parents=True)
    info = make.tokenizers(directory, LARGE) | VOCABULARIES
    block = (0.02 * torch.randn(BLOCK, generator=torch.Generator().manual_seed(0))).to(torch.bfloat16)
    index = {"_class_name": "StableDiffusion3Pipeline", "_diffusers_version": "0.29.0.dev0"}
    with torch.device("meta"):  # Without memory for values.
        parts = make.networks(LARGE, info)
    for name, part in parts.items():
        part.save_config(directory / name) if hasattr(part, "save_config") else part.config.save_pretrained(directory / name)
        stem = "model" if name.startswith("text_encoder") else "diffusion_pytorch_model"
        # T5's table has two names there, of which files have one.
        shapes = {key: list(value.shape) for key, value in part.state_dict().items() if key != "encoder.embed_tokens.weight"}
        written = write_weights(directory / name / f"{stem}.safetensors", shapes, block)
        library = "transformers" if name.startswith("text_encoder") else "diffusers"
        index[name] = [library, type(part).__name__]
        print(f"{name}: {written / 1e9:.2f} GB", flush=True)
    FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0).save_pretrained(directory / "scheduler")
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    kinds = {"tokenizer": "CLIPTokenizer", "tokenizer_2": "CLIPTokenizer", "tokenizer_3": "T5TokenizerFast"}
    index |= {name: ["transformers", kind] for name, kind in kinds.items()}
    make.tok.dump(directory / "model_index.json", index)


if __name__ == "__main__":
    main()
