"""Drawn scenes as the autoencoder's latents, stored in files of 512 scenes for each of the two training phases."""

from __future__ import annotations

import os
import pathlib
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
import vae
from common import Log, arguments, autocast
from images import draw_scene
from sizes import mixed, size_of
from state import replace
from torch.utils.data import DataLoader, Dataset

SHARD = 512
# The scale that scenes are drawn at. Most of the training is at half size, where an image has a quarter of the tokens.
SCALES = {"small": 0.5, "full": 1.0}
# Number of scenes that are kept in memory, the newest ones.
KEPT = {"small": 40_000, "full": 10_000}


def name(work: pathlib.Path, phase: str, shard: int) -> pathlib.Path:
    return work / f"latents-{phase}-{shard:04}.pt"


class Scenes(Dataset):
    """Number and image of the training scenes from `first` on."""

    def __init__(self, first: int, phase: str):
        self.first, self.scale = first, SCALES[phase]

    def __len__(self) -> int:
        return 1 << 24

    def __getitem__(self, offset: int) -> tuple[int, np.ndarray]:
        index = mixed(self.first + offset)
        return index, draw_scene(index, self.scale)


class Pool:
    """Latents by size. `grow` draws new scenes; every 512 of them are written to a file, so that a restart keeps them."""

    def __init__(self, work: pathlib.Path, phase: str, device: torch.device):
        self.work, self.phase, self.device = work, phase, device
        self.encoder = vae.load(work).encoder.to(device, memory_format=torch.channels_last)
        self.kept: deque[tuple[int, torch.Tensor]] = deque(maxlen=KEPT[phase])
        self.shards, self.fresh = 0, {}
        while name(work, phase, self.shards).exists():
            self.kept.extend(torch.load(name(work, phase, self.shards)).items())
            self.shards += 1
        self.drawn = self.draw()

    def draw(self) -> Iterator[tuple[int, np.ndarray]]:
        workers = 0 if self.device.type == "cpu" else os.cpu_count() - 1
        scenes = Scenes(self.shards * SHARD, self.phase)
        return iter(DataLoader(scenes, batch_size=None, num_workers=workers, collate_fn=lambda pair: pair))

    def grow(self, count: int) -> None:
        """Draws and encodes `count` more scenes."""
        for _ in range(count):
            index, image = next(self.drawn)
            self.fresh[index] = latent = self.encode(image)
            self.kept.append((index, latent))
            if len(self.fresh) == SHARD:
                replace(name(self.work, self.phase, self.shards), self.fresh)
                self.shards, self.fresh = self.shards + 1, {}

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> torch.Tensor:
        """`[16, height / 16, width / 16]` bf16, on the CPU."""
        pixels = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 127.5 - 1
        with autocast(self.device):
            latent = self.encoder(pixels.contiguous(memory_format=torch.channels_last))
        return latent[0, : vae.CHANNELS].bfloat16().cpu()

    def by_size(self) -> dict[tuple[int, int], list[tuple[int, torch.Tensor]]]:
        found: dict[tuple[int, int], list[tuple[int, torch.Tensor]]] = {}
        for index, latent in self.kept:
            found.setdefault(size_of(index), []).append((index, latent))
        return found


def make(work: pathlib.Path, phase: str, shards: int, device: torch.device) -> None:
    """Writes the missing ones of the first `shards` files."""
    log = Log(work / "log.jsonl", f"latents-{phase}")
    pool = Pool(work, phase, device)
    while pool.shards < shards:
        pool.grow(SHARD)
        deviation = torch.stack([latent.float().std() for _, latent in list(pool.kept)[-SHARD:]]).mean()
        log.write(shards=pool.shards, deviation=round(deviation.item(), 4))


if __name__ == "__main__":
    options = arguments(phase=True)
    make(options.work, options.phase, options.amount, options.device)
