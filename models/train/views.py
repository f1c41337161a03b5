"""Small views of drawn scenes, for the two networks that look at pictures: the judge and the safety checker."""

from __future__ import annotations

import pathlib

import numpy as np
import torch
from common import workers
from PIL import Image
from sizes import HELD_OUT, scene_of, size_of
from world import render

SIDE = 224
# Every other view has a flag, so that the safety checker sees enough of them.
FLAG_EVERY = 4


def indices(first: int, count: int) -> list[int]:
    """Scene numbers from `first` on; every fourth has a flag."""
    found, plain, flagged = [], iter(range(first, first + (1 << 28))), iter(range(first + (1 << 28), first + (1 << 29)))
    while len(found) < count:
        if len(found) % FLAG_EVERY == 0:
            found.append(next(index for index in flagged if "flag" in scene_of(index).things))
        else:
            found.append(next(plain))
    return found


def view_of(index: int) -> np.ndarray:
    """The scene drawn at half its size and squeezed to `[224, 224, 3]` uint8, as the safety checker's processor does."""
    width, height = size_of(index)
    return squeeze(Image.fromarray(render.render(scene_of(index), width // 2, height // 2)))


def squeeze(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def views(work: pathlib.Path, count: int, held_out: bool) -> tuple[list[int], torch.Tensor]:
    """Scene numbers and views `[count, 224, 224, 3]` uint8; kept in a file."""
    found = indices(HELD_OUT if held_out else HELD_OUT // 2, count)
    path = work / f"views-{'held-out-' if held_out else ''}{count}.npy"
    if not path.exists():
        with workers(2) as pool:
            np.save(path, np.stack(pool.map(view_of, found, chunksize=50)))
    return found, torch.from_numpy(np.load(path))


def batch(pictures: torch.Tensor, blemish: bool) -> torch.Tensor:
    """`[B, 3, 224, 224]` in -1..1; with `blemish`, blurred, tinted and noisy, as a painted picture may be."""
    pixels = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    if not blemish:
        return pixels
    if torch.rand(()) < 0.5:
        size = int(torch.randint(2, 5, ()))
        small = torch.nn.functional.avg_pool2d(pixels, size)
        pixels = torch.nn.functional.interpolate(small, pixels.shape[-2:], mode="bilinear")
    gain = 1 + 0.06 * torch.randn(len(pixels), 3, 1, 1)
    pixels = pixels * gain + 0.04 * torch.randn(len(pixels), 3, 1, 1)
    return (pixels + 0.06 * torch.rand(()) * torch.randn_like(pixels)).clamp(-1, 1)
