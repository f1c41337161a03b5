"""The second judge: classifies each object as whole or broken. It is trained on drawn scenes with a broken object.

Broken means a part is missing, displaced or doubled, or the object has melted (`world/faults.py`). Like the
first judge, it is stored as plain arrays.
"""

from __future__ import annotations

import pathlib
import random

import look
import numpy as np
import torch
import torch.nn.functional as F
from common import Log, advance, arguments, autocast, rate
from judge import Judge
from labels import OBJECTS
from state import State
from views import ABSENT, OBJECT_SIDE, WHOLE, batch, object_views

BATCH = 32
PEAK = 1.5e-3


def train(work: pathlib.Path, steps: int, device: torch.device, count: int = 10_000) -> None:
    torch.manual_seed(7)
    log = Log(work / "log.jsonl", "whole")
    images, states = object_views(work, min(count, 16 * steps), False)
    model = Judge(OBJECT_SIDE, len(OBJECTS)).to(device, memory_format=torch.channels_last)
    begin(model, look.stored(work / "judge.npz"), batch(images[:BATCH].to(device), False))
    optimizer = torch.optim.AdamW(model.parameters(), PEAK, weight_decay=0.03)
    state = State(work / "whole-state.pt", steps, random.Random(7), model=model, optimizer=optimizer)
    running, since = 0.0, 0
    for step in state.run():
        # Pairs of images that differ only in the fault.
        whole = 2 * torch.randint(len(images) // 2, (BATCH // 2,))
        chosen = torch.cat([whole, whole + 1])
        pixels = batch(images[chosen].to(device), bool(torch.rand(()) < 0.7))
        with autocast(device):
            logits = model(pixels.contiguous(memory_format=torch.channels_last))
        loss = loss_of(logits.float(), states[chosen].to(device))
        loss.backward()
        advance([optimizer], rate(step, steps, PEAK))
        running, since = running + loss.item(), since + 1
        if step % 50 == 49:
            log.write(step=step + 1, loss=round(running / since, 4))
            running, since = 0.0, 0
    look.store(work / "whole.npz", model.eval().arrays())
    log.write(step=steps, **measure(work, model, device, min(1000, steps)))


@torch.no_grad()
def begin(model: Judge, arrays: dict[str, np.ndarray], pixels: torch.Tensor) -> None:
    """Starts from the first judge's convolutions. Their norms were folded in: the norms are estimated from `pixels`."""
    x = pixels
    for i, (conv, norm) in enumerate(zip(model.convs, model.norms)):
        conv.weight.copy_(torch.from_numpy(arrays[f"conv{i}.weight"]))
        y = conv(x)
        mean, deviation = y.mean((0, 2, 3)), y.std((0, 2, 3))
        norm.weight.copy_(deviation)
        norm.bias.copy_(torch.from_numpy(arrays[f"conv{i}.bias"]).to(mean) + mean)
        x = norm(y).relu()


def loss_of(logits: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy over the present objects; broken ones, which are fewer, count three times."""
    weight = torch.where(states == WHOLE, 1.0, 3.0) * (states != ABSENT)
    return F.binary_cross_entropy_with_logits(logits, (states == WHOLE).float(), weight)


@torch.no_grad()
def measure(work: pathlib.Path, model: Judge, device: torch.device, count: int) -> dict[str, list[float]]:
    """For every object on held-out views: the share of whole ones classified as whole, and of broken ones as broken."""
    images, states = object_views(work, count, True)
    parts = [model(batch(part.to(device), False)).cpu() > 0 for part in images.split(BATCH)]
    passed, found = torch.cat(parts), {}
    for i, name in enumerate(OBJECTS):
        whole, broken = states[:, i] == WHOLE, (states[:, i] != WHOLE) & (states[:, i] != ABSENT)
        shares = passed[whole, i].float().mean().item(), (~passed[broken, i]).float().mean().item()
        found[name] = [round(share, 3) for share in shares]
    return found


if __name__ == "__main__":
    options = arguments()
    train(options.work, options.amount, options.device)
