"""Pictures as the autoencoder's latents, drawn once and kept in files of 512 scenes."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import torch
import vae
from common import Log, picture_of, workers
from sizes import size_of

SHARD = 512


def name(work: pathlib.Path, shard: int) -> pathlib.Path:
    return work / f"latents-{shard:04}.pt"


def make(work: pathlib.Path, shards: int) -> None:
    """Writes the files that are missing."""
    log = Log(work / "log.jsonl", "latents")
    model = vae.load(work).to(memory_format=torch.channels_last)
    with workers(1) as pool:
        for shard in range(shards):
            if name(work, shard).exists():
                continue
            indices = range(shard * SHARD, (shard + 1) * SHARD)
            found = {}
            for index, picture in zip(indices, pool.imap(picture_of, indices, chunksize=4)):
                found[index] = encode(model, picture)
            torch.save(found, name(work, shard))
            log.write(
                shard=shard, deviation=round(torch.stack([x.float().std() for x in found.values()]).mean().item(), 4)
            )


@torch.no_grad()
def encode(model, picture: np.ndarray) -> torch.Tensor:
    """`[16, height / 32, width / 32]` bf16."""
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.autocast("cpu", torch.bfloat16):
        return model.encoder(pixels.contiguous(memory_format=torch.channels_last))[0, : vae.CHANNELS].bfloat16()


class Pool:
    """The latents that there are by now, by size."""

    def __init__(self, work: pathlib.Path):
        self.work, self.shards = work, 0
        self.by_size: dict[tuple[int, int], list[tuple[int, torch.Tensor]]] = {}

    def grow(self) -> int:
        """Reads new files; returns the number of scenes."""
        while name(self.work, self.shards).exists():
            try:
                found = torch.load(name(self.work, self.shards))
            except (EOFError, RuntimeError):  # Still being written.
                break
            for index, value in found.items():
                self.by_size.setdefault(size_of(index), []).append((index, value))
            self.shards += 1
        return sum(map(len, self.by_size.values()))


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
