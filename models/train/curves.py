"""Plots the training log, one panel a stage."""

from __future__ import annotations

import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

PANELS = {
    "vae": ("pixels", "edges"),
    "text": ("clip loss", "t5 loss", "pooled loss"),
    "transformer-small": ("loss",),
    "transformer-full": ("loss",),
    "decoder": ("pixels", "edges"),
    "safety": ("loss",),
    "judge": ("loss",),
    "whole": ("loss",),
}


def draw(log: pathlib.Path, image: pathlib.Path) -> None:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    figure, axes = plt.subplots(2, 4, figsize=(15, 6), dpi=80, layout="constrained")
    for axis, (stage, names) in zip(axes.flat, PANELS.items()):
        for name in names:
            points = [(line["step"], line[name]) for line in lines if line["stage"] == stage and name in line]
            if points:
                axis.plot(*zip(*points), label=name, linewidth=1)
        axis.set(title=stage, xlabel="step", yscale="log")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(image)
    # A third of the size: lines need few colours.
    Image.open(image).convert("RGB").quantize(64).save(image, optimize=True)


if __name__ == "__main__":
    draw(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
