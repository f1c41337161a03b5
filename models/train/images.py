"""An endless sequence of drawn scenes: a number always gives the same image, so that a stage can resume at any number."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
from sizes import mixed, scene_of, size_of
from torch.utils.data import DataLoader, Dataset
from world import render


def draw_scene(index: int, scale: float = 1.0) -> np.ndarray:
    """Scene number `index` drawn at `scale` times its size: `[height, width, 3]` uint8."""
    width, height = size_of(index)
    return render.render(scene_of(index), round(width * scale), round(height * scale))


class Scenes(Dataset):
    """Training scenes from number `first` on, two of every four at half size."""

    def __init__(self, first: int, count: int):
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, offset: int) -> np.ndarray:
        count = self.first + offset
        return draw_scene(mixed(count), 0.5 if count % 4 < 2 else 1.0)


class Crops:
    """Square crops of drawn scenes, from a pool in which new images replace the oldest ones."""

    def __init__(self, first: int, count: int, side: int, rng: random.Random, device: torch.device, pool: int = 160):
        workers = 0 if device.type == "cpu" else os.cpu_count() - 1
        scenes = Scenes(first, count)
        self.scenes = iter(DataLoader(scenes, batch_size=None, num_workers=workers, collate_fn=np.asarray))
        self.side, self.rng, self.device, self.size = side, rng, device, pool
        self.pool: list[np.ndarray] = [next(self.scenes) for _ in range(pool // 2)]

    def next(self, count: int) -> torch.Tensor:
        """`[count, 3, side, side]` in -1..1."""
        if (image := next(self.scenes, None)) is not None:
            self.pool = [*self.pool[-self.size + 1 :], image]
        pieces = torch.from_numpy(np.stack([self.piece() for _ in range(count)])).to(self.device)
        pixels = pieces.permute(0, 3, 1, 2).float() / 127.5 - 1
        return pixels.contiguous(memory_format=torch.channels_last)

    def piece(self) -> np.ndarray:
        """One crop; half of the time the most detailed of three."""
        image, tries = self.rng.choice(self.pool), []
        for _ in range(self.rng.choice((1, 3))):
            y, x = (self.rng.randrange(0, side - self.side + 1) for side in image.shape[:2])
            piece = image[y : y + self.side, x : x + self.side]
            tries.append((np.abs(np.diff(piece[::4, ::4].astype(np.int16), axis=1)).mean(), piece))
        piece = max(tries, key=lambda one: one[0])[1]
        return piece[:, ::-1] if self.rng.random() < 0.5 else piece
