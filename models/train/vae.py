"""The autoencoder: images to 16 latent channels at a 16th of the size, and back.

Trained on crops. The latents are kept near mean 0 and deviation 1 for each channel, and the decoder gets them with noise,
so that it tolerates small errors of the transformer.
"""

from __future__ import annotations

import pathlib
import random

import numpy as np
import torch
import torch.nn.functional as F
from common import CHANNELS, Average, Log, advance, arguments, autocast, optimizers, rate
from diffusers import AutoencoderKL
from images import Crops
from state import State, begin_with, replace

BLOCKS = (8, 16, 32, 48, 64)
FACTOR = 2 ** (len(BLOCKS) - 1)
NOISE = 0.2
PEAK = 2e-3
CROP, BATCH = 128, 8


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
    """Initial weights that pass a blurred image through, since deep networks learn slowly from random ones."""
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


def train(work: pathlib.Path, steps: int, device: torch.device) -> None:
    """Trains both halves; the decoder gets the latents with noise."""
    torch.manual_seed(1)
    rng = random.Random(1)
    log = Log(work / "log.jsonl", "vae")
    vae = build().to(device, memory_format=torch.channels_last)
    begin(vae)
    begin_with(work / "vae-start.pt", vae)
    average = Average(vae, 0.998)
    matrices, others = optimizers(*by_kind(vae), weight_decay=1e-3)
    state = State(work / "vae-state.pt", steps, rng, vae=vae, average=average, matrices=matrices, others=others)
    crops = Crops(state.step, steps + 200, CROP, rng, device)
    log.write(step=state.step, parameters=sum(p.numel() for p in vae.parameters()))
    for step in state.run():
        batch = crops.next(BATCH)
        noise = NOISE * torch.randn(BATCH, CHANNELS, CROP // FACTOR, CROP // FACTOR, device=device)
        with autocast(device):
            latents = vae.encoder(batch)[:, :CHANNELS]
            made = vae.decoder(latents + noise * rng.random())
        losses = loss_of(made.float(), batch, latents.float())
        (losses["pixels"] + 0.5 * losses["edges"] + 0.03 * losses["spread"]).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        advance([matrices, others], rate(step, steps, PEAK))
        average.update(vae)
        if step % 50 == 0:
            log.write(step=step, **{name: round(value.item(), 5) for name, value in losses.items()})
    finish(average.module)
    replace(work / "vae.pt", average.module.cpu().state_dict())


def finish(vae: AutoencoderKL) -> None:
    """Sets the encoder's second output half, a log variance, to the noise of training."""
    with torch.no_grad():
        vae.encoder.conv_out.weight[CHANNELS:] = 0
        vae.encoder.conv_out.bias[CHANNELS:] = 2 * float(np.log(NOISE / 2))


def load(work: pathlib.Path) -> AutoencoderKL:
    """The autoencoder, with the decoder of `decoder.py` once that is trained."""
    vae = build()
    vae.load_state_dict(torch.load(work / "vae.pt"))
    if (work / "decoder.pt").exists():
        vae.decoder.load_state_dict(torch.load(work / "decoder.pt"))
    return vae.eval().requires_grad_(False)


if __name__ == "__main__":
    options = arguments()
    train(options.work, options.amount, options.device)
