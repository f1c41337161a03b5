"""Helpers of the torch baselines: time on a device, and data of its driver."""

import os
import platform
import subprocess
import time

import torch

QUERY = {
    "core_mhz": "clocks.sm",
    "core_max_mhz": "clocks.max.sm",
    "memory_mhz": "clocks.mem",
    "power_w": "power.draw",
    "power_limit_w": "power.limit",
    "temperature_c": "temperature.gpu",
}


class Clock:
    """Timestamps: CUDA events on a GPU, the host's clock on the CPU."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.marks = []

    def mark(self) -> None:
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def intervals_ms(self) -> list[float]:
        if self.cuda:
            torch.cuda.synchronize()
            return [a.elapsed_time(b) for a, b in zip(self.marks, self.marks[1:])]
        return [(b - a) * 1e3 for a, b in zip(self.marks, self.marks[1:])]


def name(device: torch.device) -> str | None:
    """The GPU's name, None on the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def driver(device: torch.device) -> str | None:
    return ask_driver(device, ["driver_version"])[0] or None if device.type == "cuda" else None


def clocks(device: torch.device) -> dict:
    """Clocks, power and temperature now, with the names of `latentd bench`."""

    def number(text: str) -> float | None:
        try:
            return float(text)
        except ValueError:
            return None

    values = ask_driver(device, list(QUERY.values())) if device.type == "cuda" else [""] * len(QUERY)
    return dict(zip(QUERY, map(number, values)))


def ask_driver(device: torch.device, names: list[str]) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits", "-i", str(device.index or 0)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ["" for _ in names]
    return [value.strip() for value in answer.splitlines()[0].split(",")]


def machine(device: torch.device, before: dict, **versions: str | None) -> dict:
    """The key `machine` of a report."""
    return {
        "device": name(device) or platform.processor() or "cpu",
        "clocks_before": before,
        "clocks_after": clocks(device),
        "host_cores": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
        | versions,
    }
