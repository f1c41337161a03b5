"""Code of all training stages: arguments, devices, optimizers, averaging, logging."""

from __future__ import annotations

import argparse
import copy
import functools
import json
import math
import multiprocessing
import os
import pathlib
import time

import torch

CHANNELS = 16


def arguments(phase: bool = False) -> argparse.Namespace:
    """The arguments of every stage: work folder, amount, device, and for some stages the phase."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("amount", type=int)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    if phase:
        parser.add_argument("--phase", choices=("small", "full"), default="small")
    return parser.parse_args()


@functools.cache
def fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 faster than f32. A processor without AMX emulates it, ten times slower."""
    return device.type == "cuda" or torch.cpu._is_amx_tile_supported()


def autocast(device: torch.device) -> torch.autocast:
    """bf16 for matrix products and convolutions where the device is fast at it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=fast_bf16(device))


def workers(count: int | None = None) -> multiprocessing.pool.Pool:
    """Processes that draw, each with one thread."""
    return multiprocessing.get_context("spawn").Pool(
        count or os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)
    )


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, for matrices and for the kernels of convolutions (K. Jordan 2024).

    Updates have the size of AdamW's, so that both take the same learning rate (J. Liu et al. 2025).
    """

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for values in by_shape(group["params"]):
                for value, update in zip(values, orthogonal(self.momenta(values, group["momentum"]))):
                    value.mul_(1 - group["lr"] * group["weight_decay"])
                    value.add_(update.view_as(value), alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)

    def momenta(self, values: list, momentum: float) -> torch.Tensor:
        """Nesterov's momentum of matrices of one shape, `[count, rows, columns]`."""
        found = []
        for value in values:
            buffer = self.state[value].setdefault("momentum", torch.zeros_like(value))
            buffer.lerp_(value.grad, 1 - momentum)
            found.append(value.grad.lerp(buffer, momentum).flatten(1))
        return torch.stack(found)


def by_shape(values: list) -> list[list]:
    """Values of one shape together: a product of all their matrices takes a third of the time of one after the other."""
    found: dict[torch.Size, list] = {}
    for value in values:
        found.setdefault(value.shape, []).append(value)
    return list(found.values())


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices with singular values of about 1, by five Newton-Schulz steps, in bf16 where that is fast."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.to(torch.bfloat16 if fast_bf16(x.device) else torch.float32)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).float()


def optimizers(matrices: list, others: list, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for everything else; `advance` gives the learning rate."""
    return [
        Muon(matrices, lr=0.0, weight_decay=weight_decay),
        torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def advance(optims: list[torch.optim.Optimizer], lr: float) -> None:
    """One step of each at this learning rate; clears the gradients."""
    for optim in optims:
        for group in optim.param_groups:
            group["lr"] = lr
        optim.step()
        optim.zero_grad()


class Average:
    """An exponential moving average of a module's weights."""

    def __init__(self, module: torch.nn.Module, decay: float):
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - decay)

    def state_dict(self) -> dict:
        return {"module": self.module.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        self.module.load_state_dict(state["module"])
        self.steps = state["steps"]


class Log:
    """Writes one JSON object a line, and prints it; `curves.py` plots the losses."""

    def __init__(self, path: pathlib.Path, stage: str):
        self.path, self.stage, self.started = path, stage, time.time()

    def write(self, **values) -> None:
        line = {"stage": self.stage, "seconds": round(time.time() - self.started), **values}
        print(json.dumps(line), flush=True)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Learning rate: linear warmup, then a half cosine down to 1/50 of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))
