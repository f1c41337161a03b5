"""Trains only the decoder further: the encoder is frozen, so that the transformer's latents stay valid.

It learns to decode sharp edges from slightly wrong latents: the latents get noise, and besides pixels and edges the loss
compares features of both images in the judge, a network trained on drawn scenes.
"""

from __future__ import annotations

import pathlib
import random

import torch
import torch.nn.functional as F
import vae
from common import Average, Log, advance, arguments, autocast, optimizers, rate
from judge import features_of
from images import Crops
from state import State, replace

PEAK = 1.5e-3
# Scenes that the autoencoder was not trained on.
FIRST = 1 << 20


def perceptual(made: torch.Tensor, real: torch.Tensor, features) -> torch.Tensor:
    """Difference of the judge's features, layer by layer, each scaled to mean square 1."""
    total = 0.0
    for a, b in zip(features(made), features(real.detach())):
        total = total + F.mse_loss(a, b) / b.square().mean().clamp_min(1e-4)
    return total


def train(work: pathlib.Path, steps: int, device: torch.device) -> None:
    torch.manual_seed(6)
    rng = random.Random(6)
    log = Log(work / "log.jsonl", "decoder")
    model = vae.build()
    model.load_state_dict(torch.load(work / "vae.pt"))
    model.to(device, memory_format=torch.channels_last)
    model.encoder.requires_grad_(False)
    features = features_of(work, device)
    average = Average(model.decoder, 0.999)
    matrices, others = optimizers(*vae.by_kind(model.decoder), weight_decay=1e-3)
    parts = {"decoder": model.decoder, "average": average, "matrices": matrices, "others": others}
    state = State(work / "decoder-state.pt", steps, rng, **parts)
    crops = Crops(FIRST + state.step, steps + 200, vae.CROP, rng, device)
    for step in state.run():
        batch = crops.next(vae.BATCH)
        with autocast(device):
            with torch.no_grad():
                latents = model.encoder(batch)[:, : vae.CHANNELS]
            made = model.decoder(latents + vae.NOISE * torch.randn_like(latents) * rng.random())
        losses = vae.loss_of(made.float(), batch, latents.float())
        losses["features"] = perceptual(made.float(), batch, features)
        (losses["pixels"] + losses["edges"] + 0.1 * losses["features"]).backward()
        torch.nn.utils.clip_grad_norm_(model.decoder.parameters(), 1.0)
        advance([matrices, others], rate(step, steps, PEAK))
        average.update(model.decoder)
        if step % 50 == 0:
            log.write(step=step, **{name: round(losses[name].item(), 5) for name in ("pixels", "edges", "features")})
    replace(work / "decoder.pt", average.module.cpu().state_dict())


if __name__ == "__main__":
    options = arguments()
    train(options.work, options.amount, options.device)
