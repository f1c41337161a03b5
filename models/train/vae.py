"""The autoencoder: pictures to 16 latent channels at a 32nd of the size, and back.

Trained on crops. The latents are kept near mean 0 and deviation 1 for each channel, and the decoder hears them with
noise, so that it forgives what the transformer gets slightly wrong.
"""

from __future__ import annotations

import pathlib
import random

import numpy as np
import torch
import torch.nn.functional as F
from common import CHANNELS, Average, Log, advance, optimizers, picture_of, rate, workers
from diffusers import AutoencoderKL

BLOCKS = (8, 16, 32, 48, 64, 64)
NOISE = 0.1
PEAK = 2e-3
CROP, BATCH, PICTURES = 192, 8, 2000


def build() -> AutoencoderKL:
    count = len(BLOCKS)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * count,
        up_block_types=("UpDecoderBlock2D",) * count,
        block_out_channels=BLOCKS,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,
        shift_factor=0.0,
        sample_size=1024,
    )


@torch.no_grad()
def begin(vae: AutoencoderKL) -> None:
    """Weights that pass a blurred picture through from the first step: what is deep learns slowly from noise."""
    for module in vae.modules():
        kind = type(module).__name__
        if kind == "ResnetBlock2D":
            module.conv2.weight.zero_(), module.conv2.bias.zero_()
            if module.conv_shortcut is not None:
                spread_identity(module.conv_shortcut.weight, [(0, 0)])
                module.conv_shortcut.bias.zero_()
        elif kind == "Downsample2D":
            spread_identity(module.conv.weight, [(y, x) for y in (0, 1) for x in (0, 1)])
            module.conv.bias.zero_()
        elif kind == "Upsample2D":
            spread_identity(module.conv.weight, [(1, 1)])
            module.conv.bias.zero_()
        elif kind == "Attention":
            module.to_out[0].weight.zero_()


def spread_identity(weight: torch.Tensor, taps: list[tuple[int, int]]) -> None:
    """An identity from input to output channels at `taps`, with a little noise for channels that have no partner."""
    outputs, inputs = weight.shape[:2]
    table = torch.eye(outputs, inputs)
    if outputs > inputs:
        table[inputs:] = torch.randn(outputs - inputs, inputs) / inputs**0.5
    weight.normal_(std=0.02)
    for y, x in taps:
        weight[:, :, y, x] += table / len(taps)


def crops(pictures: list[np.ndarray], rng: random.Random, count: int) -> torch.Tensor:
    """`[count, 3, CROP, CROP]` in -1..1; of three places tried, the one with most in it."""
    found = []
    for _ in range(count):
        picture = rng.choice(pictures)
        tries = []
        for _ in range(rng.choice((1, 3))):
            y, x = (rng.randrange(0, side - CROP + 1) for side in picture.shape[:2])
            crop = picture[y : y + CROP, x : x + CROP]
            tries.append((np.abs(np.diff(crop[::4, ::4].astype(np.int16), axis=1)).mean(), crop))
        crop = max(tries, key=lambda one: one[0])[1]
        found.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    batch = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return batch.contiguous(memory_format=torch.channels_last)


def loss_of(made: torch.Tensor, real: torch.Tensor, latents: torch.Tensor) -> dict[str, torch.Tensor]:
    """Difference of pixels, of edges at three scales, and how far the latents are from mean 0 and deviation 1."""
    edges = 0.0
    a, b = made, real
    for _ in range(3):
        for axis in (2, 3):
            edges = edges + (a.diff(dim=axis) - b.diff(dim=axis)).abs().mean()
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    spread = mean.square().mean() + deviation.clamp_min(1e-4).log().square().mean()
    pixels = (made - real).abs().mean() + 2 * (made - real).square().mean()
    return {"pixels": pixels, "edges": edges, "spread": spread}


def by_kind(part: torch.nn.Module) -> tuple[list, list]:
    """Kernels and matrices inside, and all other parameters: of the autoencoder or of one half."""
    inside = lambda name, value: value.ndim > 1 and "conv_in." not in name and "conv_out." not in name
    named = list(part.named_parameters())
    return [v for n, v in named if inside(n, v)], [v for n, v in named if not inside(n, v)]


def train(work: pathlib.Path, steps: int) -> None:
    torch.manual_seed(1)
    rng = random.Random(1)
    log = Log(work / "log.jsonl", "vae")
    with workers() as pool:
        pictures = pool.map(picture_of, range(PICTURES), chunksize=20)
    log.write(pictures=len(pictures))
    vae = build().to(memory_format=torch.channels_last)
    begin(vae)
    average = Average(vae, 0.998)
    optims = optimizers(*by_kind(vae), weight_decay=1e-3)

    def forward(batch: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latents = vae.encoder(batch)[:, :CHANNELS]
        return vae.decoder(latents + noise), latents

    forward = torch.compile(forward)
    for step in range(steps):
        batch = crops(pictures, rng, BATCH)
        noise = NOISE * torch.randn(BATCH, CHANNELS, CROP // 32, CROP // 32) * rng.random()
        with torch.autocast("cpu", torch.bfloat16):
            made, latents = forward(batch, noise)
        losses = loss_of(made.float(), batch, latents.float())
        (losses["pixels"] + 0.5 * losses["edges"] + 0.02 * losses["spread"]).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        advance(optims, rate(step, steps, PEAK))
        average.update(vae)
        if step % 100 == 0:
            log.write(step=step, **{name: round(value.item(), 5) for name, value in losses.items()})
        if step % 500 == 499 or step == steps - 1:
            finish(average.module)
            torch.save(average.module.state_dict(), work / "vae.pt")


def finish(vae: AutoencoderKL) -> None:
    """The encoder's second half, the log of a variance, becomes the noise of training."""
    with torch.no_grad():
        vae.encoder.conv_out.weight[CHANNELS:] = 0
        vae.encoder.conv_out.bias[CHANNELS:] = 2 * float(np.log(NOISE / 2))


def load(work: pathlib.Path) -> AutoencoderKL:
    """The autoencoder, with its better decoder (`decoder.py`) once there is one."""
    vae = build()
    vae.load_state_dict(torch.load(work / "vae.pt"))
    if (work / "decoder.pt").exists():
        vae.decoder.load_state_dict(torch.load(work / "decoder.pt"))
    return vae.eval().requires_grad_(False)


if __name__ == "__main__":
    import sys

    train(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
