"""Starts the stages with the weights of a smaller model: the built-in model of before, with a token for 64x64 pixels.

    git worktree add ../mini 4f1a4aa
    python models/train/grow.py ../mini/models/mini WORK      # before the stage `vae`
    python models/train/train.py WORK --until text
    python models/train/grow.py ../mini/models/mini WORK      # after it: the transformer needs the new latents
    python models/train/train.py WORK

A token of a half-size image covers as much of the scene as a token of the smaller model, so that the transformer computes
nearly the same function at first: linear maps between the tokens of both autoencoders (they explain 96 % of the variance
of either) become part of its first and last layers, and one block is a copy whose output is zero.
"""

from __future__ import annotations

import pathlib
import shutil
import sys

import torch
import transformer
import vae
from diffusers import AutoencoderKL
from images import draw_scene
from sizes import mixed
from start import TEXT, weights
from state import replace

# Scenes for the maps, which the autoencoders were not trained on.
FIRST, SCENES = 500_000, 150
# For each block of the transformer its block in the smaller model; the third one is the copy.
BLOCKS = (0, 1, 1, 2, 3)
COPY = 2
# The gates of attention and MLP among the six outputs of a block's adaptive norm.
GATES = (2, 5)
CHANNELS, PATCH = vae.CHANNELS, transformer.PATCH


def grow_vae(old: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The autoencoder without the smaller model's innermost blocks, which halve the size once more."""
    model = vae.build()
    vae.begin(model)
    made = model.state_dict()
    for name, value in made.items():
        source = name
        if name.startswith("decoder.up_blocks."):
            _, _, block, rest = name.split(".", 3)
            source = f"decoder.up_blocks.{int(block) + 1}.{rest}"
        if ".mid_block." not in name:
            value.copy_(old[source])
    return made


def grow_text(directory: pathlib.Path) -> dict[str, torch.Tensor]:
    """The text encoders; T5's last block is new, and its output is zero."""
    import text

    made = text.Encoders(text.Tokens(directory)).state_dict()
    for folder, part in TEXT.items():
        for name, value in weights(directory / folder).items():
            made[f"{part}.{name}"].copy_(value)
    made["t5.encoder.embed_tokens.weight"].copy_(made["t5.shared.weight"])
    for name in ("0.SelfAttention.o", "1.DenseReluDense.wo"):
        made[f"t5.encoder.block.2.layer.{name}.weight"].zero_()
    return made


def grow_transformer(old: dict[str, torch.Tensor], to_old, to_new) -> dict[str, torch.Tensor]:
    """The transformer; `to_old` and `to_new` are maps of tokens, weights `[64, 64]` and bias `[64]`."""
    made = transformer.build().state_dict()
    for name, value in made.items():
        source = name
        if name.startswith("transformer_blocks."):
            _, block, rest = name.split(".", 2)
            source = f"transformer_blocks.{BLOCKS[int(block)]}.{rest}"
        if name != "pos_embed.pos_embed":
            value.copy_(old[source])
    for norm in ("norm1", "norm1_context"):
        for kind in ("weight", "bias"):
            parts = made[f"transformer_blocks.{COPY}.{norm}.linear.{kind}"].chunk(6)
            for gate in GATES:
                parts[gate].zero_()
    first, weight = "pos_embed.proj", made["pos_embed.proj.weight"].flatten(1)
    made[f"{first}.bias"] += weight @ to_old[1]
    made[f"{first}.weight"].copy_((weight @ to_old[0]).view_as(made[f"{first}.weight"]))
    # The rows of the last layer are ordered by place in the patch first, tokens by channel.
    rows, bias = (by_channel(made[f"proj_out.{name}"]) for name in ("weight", "bias"))
    made["proj_out.weight"].copy_(by_place(to_new[0] @ rows))
    made["proj_out.bias"].copy_(by_place(to_new[0] @ bias))
    return made


def by_channel(rows: torch.Tensor) -> torch.Tensor:
    return rows.unflatten(0, (PATCH * PATCH, CHANNELS)).transpose(0, 1).flatten(0, 1)


def by_place(rows: torch.Tensor) -> torch.Tensor:
    return rows.unflatten(0, (CHANNELS, PATCH * PATCH)).transpose(0, 1).flatten(0, 1)


@torch.no_grad()
def tokens(encoder: torch.nn.Module, index: int, scale: float) -> torch.Tensor:
    """Those of a drawn scene, `[count, 64]`, channels first."""
    image = torch.from_numpy(draw_scene(index, scale).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    latent = encoder(image)[0, :CHANNELS]
    return latent.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1)


def fitted(inputs: torch.Tensor, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and bias of the best linear map, by ridge regression."""
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
    square = inputs.T @ inputs + 1e-3 * len(inputs) * torch.eye(inputs.shape[1])
    found = torch.linalg.solve(square, inputs.T @ outputs).T
    return found[:, :-1], found[:, -1]


def main(directory: pathlib.Path, work: pathlib.Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "vae.pt").exists():
        for folder in directory.glob("tokenizer*"):
            shutil.copytree(folder, work / folder.name, dirs_exist_ok=True)
        replace(work / "vae-start.pt", grow_vae(weights(directory / "vae")))
        replace(work / "text-start.pt", grow_text(directory))
        return
    older = AutoencoderKL.from_pretrained(directory / "vae", torch_dtype=torch.float32).encoder
    newer = vae.load(work).encoder
    indices = [mixed(FIRST + count) for count in range(SCENES)]
    old = torch.cat([tokens(older, index, 1.0) for index in indices])
    new = torch.cat([tokens(newer, index, 0.5) for index in indices])
    maps = fitted(new, old), fitted(old, new)
    replace(work / "transformer-start.pt", grow_transformer(weights(directory / "transformer"), *maps))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
