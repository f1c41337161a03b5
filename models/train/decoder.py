"""The decoder alone, trained on: the encoder stays, so the latents that the transformer has learnt stay true."""

from __future__ import annotations

import pathlib
import random
import sys

import torch
import vae
from common import Average, Log, advance, optimizers, picture_of, rate, workers

PEAK = 1.5e-3


def train(work: pathlib.Path, steps: int) -> None:
    torch.manual_seed(6)
    rng = random.Random(6)
    log = Log(work / "log.jsonl", "decoder")
    first = vae.PICTURES
    with workers() as pool:
        pictures = pool.map(picture_of, range(first, first + vae.PICTURES), chunksize=20)
    model = vae.build().to(memory_format=torch.channels_last)
    model.load_state_dict(torch.load(work / "vae.pt"))
    model.encoder.requires_grad_(False)
    average = Average(model.decoder, 0.999)
    optims = optimizers(*vae.by_kind(model.decoder), weight_decay=1e-3)
    decode, encode = torch.compile(model.decoder), torch.compile(model.encoder)
    for step in range(steps):
        batch = vae.crops(pictures, rng, vae.BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = encode(batch)[:, : vae.CHANNELS]
            made = decode(latents + vae.NOISE * torch.randn_like(latents) * rng.random())
        losses = vae.loss_of(made.float(), batch, latents.float())
        (losses["pixels"] + 0.5 * losses["edges"]).backward()
        torch.nn.utils.clip_grad_norm_(model.decoder.parameters(), 1.0)
        advance(optims, rate(step, steps, PEAK))
        average.update(model.decoder)
        if step % 100 == 0:
            log.write(step=step, **{name: round(losses[name].item(), 5) for name in ("pixels", "edges")})
        if step % 500 == 499 or step == steps - 1:
            torch.save(average.module.state_dict(), work / "decoder.new")
    (work / "decoder.new").rename(work / "decoder.pt")


if __name__ == "__main__":
    train(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
