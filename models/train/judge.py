"""The judge: a small convolutional classifier of every label of an image.

It is trained only on drawn scenes, never on generated images, and is stored as plain arrays, so that `evaluate.py` needs
only numpy.
"""

from __future__ import annotations

import pathlib
import random
from itertools import pairwise

import look
import numpy as np
import torch
import torch.nn.functional as F
from common import Log, advance, arguments, autocast, rate
from labels import CLASSES, labels
from sizes import scene_of
from state import State
from torch import nn
from views import SIDE, batch, views

CHANNELS = (3, 24, 40, 64, 96, 96)
BATCH = 64


class Judge(nn.Module):
    """Five convolutions of stride 2, a narrow one, two linear layers; for square views of `side` pixels."""

    def __init__(self, side: int, outputs: int):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1, bias=False) for a, b in pairwise(CHANNELS))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in CHANNELS[1:])
        self.narrow = nn.Conv2d(CHANNELS[-1], 40, 1)
        self.hidden = nn.Linear(40 * (side // 32) ** 2, 192)
        self.out = nn.Linear(192, outputs)

    def features(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """The output of each convolution, for images of any size."""
        found = [pixels]
        for conv, norm in zip(self.convs, self.norms):
            found.append(norm(conv(found[-1])).relu())
        return found[1:]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.narrow(self.features(pixels)[-1]).relu().flatten(1)
        return self.out(F.dropout(self.hidden(x).relu(), 0.1, self.training))

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights with the norms folded into the convolutions."""
        found = {}
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            found[f"conv{i}.weight"] = conv.weight * scale[:, None, None, None]
            found[f"conv{i}.bias"] = norm.bias - norm.running_mean * scale
        for name in ("narrow", "hidden", "out"):
            layer = getattr(self, name)
            found |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
        return {name: value.detach().cpu().numpy() for name, value in found.items()}


def build() -> Judge:
    return Judge(SIDE, sum(len(values) for values in CLASSES.values()))


def train(work: pathlib.Path, steps: int, device: torch.device, count: int = 24_000) -> None:
    torch.manual_seed(4)
    log = Log(work / "log.jsonl", "judge")
    found, images = views(work, min(count, 6 * steps), False)
    targets = targets_of(found).to(device)
    model = build().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.02)
    state = State(work / "judge-state.pt", steps, random.Random(4), model=model, optimizer=optimizer)
    sizes = [len(values) for values in CLASSES.values()]
    for step in state.run():
        chosen = torch.randint(len(found), (BATCH,))
        pixels = batch(images[chosen].to(device), True).contiguous(memory_format=torch.channels_last)
        with autocast(device):
            logits = model(pixels)
        parts = logits.float().split(sizes, -1)
        loss = sum(F.cross_entropy(part, targets[chosen, i]) for i, part in enumerate(parts))
        loss.backward()
        advance([optimizer], rate(step, steps, 2e-3))
        if step % 100 == 0:
            log.write(step=step, loss=round(loss.item(), 4))
    look.store(work / "judge.npz", model.eval().arrays())
    found, images = views(work, min(1000, steps), True)
    with torch.no_grad():
        logits = torch.cat([model(batch(part.to(device), False)).cpu() for part in images.split(BATCH)])
    right = [
        (part.argmax(-1) == targets_of(found)[:, i]).float().mean() for i, part in enumerate(logits.split(sizes, -1))
    ]
    log.write(step=steps, **{name: round(value.item(), 4) for name, value in zip(CLASSES, right)})


def targets_of(found: list[int]) -> torch.Tensor:
    return torch.tensor([list(labels(scene_of(index)).values()) for index in found])


def features_of(work: pathlib.Path, device: torch.device):
    """The first three layers of the trained judge, as a function of images in -1..1."""
    weights = {name: torch.from_numpy(value).to(device) for name, value in look.stored(work / "judge.npz").items()}
    layers = [(weights[f"conv{i}.weight"], weights[f"conv{i}.bias"]) for i in range(3)]

    def features(pixels: torch.Tensor) -> list[torch.Tensor]:
        found = [pixels]
        for weight, bias in layers:
            found.append(F.conv2d(found[-1], weight, bias, 2, 1).relu())
        return found[1:]

    return features


if __name__ == "__main__":
    options = arguments()
    train(options.work, options.amount, options.device)
