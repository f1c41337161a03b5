"""Stages that can be stopped at any step: their state on disk, and the loop that saves it."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import time
from collections.abc import Iterator

import numpy as np
import torch

SAVE_SECONDS = 240


class State:
    """The state with which a stage resumes at the step where it stopped.

    `parts` are the objects with `state_dict` and `load_state_dict`: modules, averages, optimizers. The random
    generators of Python, numpy and torch belong to it too. The file is replaced atomically, so that a killed process leaves the old state or
    the new one.
    """

    def __init__(self, path: pathlib.Path, steps: int, rng: random.Random, **parts):
        self.path, self.steps, self.rng, self.parts = path, steps, rng, parts
        self.step, self.stopped = 0, False
        if path.exists():
            self.load()

    def load(self) -> None:
        found = torch.load(self.path, weights_only=False, map_location="cpu")
        self.step = found["step"]
        for name, part in self.parts.items():
            part.load_state_dict(found["parts"][name])
        self.rng.setstate(found["random"])
        np.random.set_state(found["numpy"])
        torch.set_rng_state(found["torch"])
        if torch.cuda.is_available() and found["cuda"]:
            torch.cuda.set_rng_state_all(found["cuda"])

    def save(self) -> None:
        replace(
            self.path,
            {
                "step": self.step,
                "parts": {name: part.state_dict() for name, part in self.parts.items()},
                "random": self.rng.getstate(),
                "numpy": np.random.get_state(),
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            },
        )

    def run(self) -> Iterator[int]:
        """The remaining steps. Saves every few minutes, after the last step, and on SIGTERM."""
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        saved = time.monotonic()
        for step in range(self.step, self.steps):
            yield step
            self.step = step + 1
            if self.stopped or self.step == self.steps or time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
            if self.stopped:
                raise SystemExit(f"{self.path.name}: stopped at step {self.step} of {self.steps}, state saved")

    def stop(self, *_) -> None:
        self.stopped = True


def begin_with(path: pathlib.Path, module: torch.nn.Module) -> None:
    """Initial weights from a file, if it is there."""
    if path.exists():
        module.load_state_dict(torch.load(path))


def replace(path: pathlib.Path, value: object) -> None:
    """Writes a torch file atomically."""
    scratch = path.with_suffix(".new")
    with scratch.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(path)
