"""Takes the parts of a model directory as finished stages, so that training goes on from that model.

    python models/train/train.py WORK --start models/mini

The next stage is then the transformer at full size: it begins with the directory's weights, with new optimizers.
"""

from __future__ import annotations

import pathlib
import shutil

import torch
from safetensors.torch import load_file
from state import replace

TEXT = {"text_encoder": "clip_l", "text_encoder_2": "clip_g", "text_encoder_3": "t5"}
# Each stage's file, and the folder with its weights.
WHOLE = {"vae.pt": "vae", "transformer-small.pt": "transformer", "safety.pt": "safety_checker"}


def write(directory: pathlib.Path, work: pathlib.Path) -> None:
    """Writes into WORK what is missing there of the stages' files and tokenizers. The directory may lack parts."""
    for folder in directory.glob("tokenizer*"):
        shutil.copytree(folder, work / folder.name, dirs_exist_ok=True)
    for name, folder in WHOLE.items():
        if (directory / folder).exists() and not (work / name).exists():
            replace(work / name, weights(directory / folder))
    if not (work / "text.pt").exists():
        parts = {part: weights(directory / folder) for folder, part in TEXT.items()}
        found = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
        found["t5.encoder.embed_tokens.weight"] = found["t5.shared.weight"]
        replace(work / "text.pt", found)


def weights(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("*.safetensors")
    return {name: value.float() for name, value in load_file(path).items()}
