"""Train the built-in model, from scratch or from a model directory, and write it to a directory.

    pip install -r models/train/requirements.txt
    python models/train/train.py WORK [--device cpu|cuda] [--start DIRECTORY] [--export DIRECTORY]

WORK holds the state of every stage, at most a few minutes old. The same command resumes where the last one stopped, at any
step of any stage; SIGTERM saves and ends. Seeds are fixed; the order in which threads add numbers is not, so two runs draw
the same scenes, but their weights are not equal in every byte.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent


@dataclass(frozen=True)
class Stage:
    """A script, its amount of work on each device (steps, or files of 512 scenes), and its output file."""

    script: str
    cpu: int
    cuda: int
    leaves: str
    phase: str = ""

    @property
    def name(self) -> str:
        return f"{self.script}-{self.phase}" if self.phase else self.script

    def amount(self, device: str, share: float) -> int:
        return max(1, round(share * (self.cuda if device == "cuda" else self.cpu)))

    def done(self, options: argparse.Namespace) -> bool:
        last = self.amount(options.device, options.share) - 1
        found = [self.leaves.format(last)]
        if self.script == "latents":  # They are for the transformer alone.
            found.append(f"transformer-{self.phase}.pt")
        return any((options.work / name).exists() for name in found) and self.name != options.again

    def command(self, options: argparse.Namespace) -> list[str]:
        amount = str(self.amount(options.device, options.share))
        phase = ["--phase", self.phase] if self.phase else []
        script = HERE / f"{self.script}.py"
        return [sys.executable, str(script), str(options.work), amount, "--device", options.device, *phase]


STAGES = (
    Stage("vae", 6000, 2500, "vae.pt"),
    Stage("text", 1500, 1000, "text.pt"),
    Stage("latents", 12, 12, "latents-small-{:04}.pt", "small"),
    Stage("transformer", 5000, 6000, "transformer-small.pt", "small"),
    Stage("latents", 4, 4, "latents-full-{:04}.pt", "full"),
    Stage("transformer", 3000, 1500, "transformer-full.pt", "full"),
    Stage("judge", 4000, 1500, "judge.npz"),
    Stage("whole", 4000, 1500, "whole.npz"),
    Stage("decoder", 5000, 1500, "decoder.pt"),
    Stage("safety", 1500, 600, "safety.pt"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--start", type=pathlib.Path, help="a model to go on from, instead of from random weights")
    parser.add_argument("--again", help="a stage to run although its file is there")
    parser.add_argument("--share", type=float, default=1.0, help="how much of every stage: 0.001 tries them all")
    parser.add_argument("--until", help="the last stage to run")
    parser.add_argument("--export", type=pathlib.Path, help="where the model goes when every stage is done")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    # OpenMP threads must not busy-wait for each other, so that other processes can use the CPU.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    if options.start:
        import start

        start.write(options.start, options.work)
    for stage in STAGES:
        if stage.done(options):
            continue
        print(f"== {stage.name}", flush=True)
        if code := run(stage.command(options)):
            return code
        if stage.name == options.until:
            return 0
    if options.export:
        export_to(options.work, options.export)
    return 0


def run(command: list[str]) -> int:
    """Runs a stage; SIGTERM is forwarded, so that it saves its state."""
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    return process.wait()


def export_to(work: pathlib.Path, directory: pathlib.Path) -> None:
    import curves
    import export

    export.write(work, directory)
    curves.draw(work / "log.jsonl", directory / "curves.png")
    shutil.copy(work / "log.jsonl", directory / "training.jsonl")
    for judge in ("judge.npz", "whole.npz"):
        shutil.copy(work / judge, HERE / judge)


if __name__ == "__main__":
    sys.exit(main())
