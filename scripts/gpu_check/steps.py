"""The two calls as tables of steps: command, time limit, and printed output."""

import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from gpu_check.machine import lacks_packages, lacks_tool
from gpu_check.runner import Step


def narrow(text: str) -> str:
    """A benchmark's output without its histogram and in narrow columns, since the output of a call is limited."""
    paragraphs = [part for part in text.rstrip().split("\n\n") if not part.lstrip("\n").startswith("  milliseconds of a step")]
    return "\n".join(re.sub(r"(?<=\S) {3,}", "  ", line) for part in paragraphs for line in part.splitlines() if line.strip())


@dataclass(frozen=True)
class Paths:
    """The paths of a call's programs and results."""

    pack: pathlib.Path
    results: pathlib.Path
    python: str
    env: dict[str, str]


class Full:
    """The published sizes."""

    time_factor = 1
    large = ["--synthetic", "sd3.5-large", "--width", "1024", "--height", "1024", "--steps", "28"]
    large_512 = ["--synthetic", "sd3.5-large", "--width", "512", "--height", "512", "--steps", "28"]
    medium = ["--synthetic", "sd3.5-medium", "--width", "1024", "--height", "1024", "--steps", "28"]
    block = ["--synthetic", "sd3.5-large", "--blocks", "1", "--width", "1024", "--height", "1024", "--steps", "2"]
    peer = large
    runs = "3"
    # Names of tests, or parts of names.
    smoke = ["rows::", "images::", "parity::base", "--skip", "shapes::"]
    parity = ["parity::"]
    models = ["fp8::", "gpu::"]
    sanitized = ["rows::", "images::", "--skip", "shapes::"]
    ops: list[str] = []
    torch: list[str] = []
    image: list[str] = []
    # Nothing to override: torch has its own libraries.
    peers_env: dict[str, str] = {}


class Small:
    """The same steps at sizes for an emulated GPU; only a few tests, since scripts/test-cuda runs them all."""

    time_factor = 10
    size = ["--width", "128", "--height", "64", "--steps", "2"]
    large = ["--model", "mini", *size]
    large_512 = ["--model", "mini", "--width", "64", "--height", "64", "--steps", "2"]
    medium = ["--synthetic", "sd3.5-medium", "--blocks", "1", "--t5-tokens", "16", *size]
    block = medium
    peer = ["--synthetic", "sd3.5-medium", "--blocks", "2", "--t5-tokens", "16", "--device", "cpu", *size]
    runs = "1"
    smoke = ["rows::norms::", "images::group_norms::"]
    parity = ["parity::without_t5"]
    models = ["fp8::"]
    sanitized = ["rows::norms::"]
    ops = ["--small"]
    torch = ["--small", "--device", "cpu"]
    image = size
    # The emulated driver lacks functions that torch needs.
    peers_env = {"LD_LIBRARY_PATH": ""}


class Table:
    """Builds a call's steps."""

    def __init__(self, paths: Paths, at: Full | Small):
        self.paths, self.at, self.steps = paths, at, []

    def step(self, name: str, seconds: float, *command: str | pathlib.Path, **others) -> None:
        self.steps.append(Step(name, seconds * self.at.time_factor, list(command), **others))

    def bin(self, name: str) -> pathlib.Path:
        return self.paths.pack / "bin" / name

    def denoise(self, name: str, seconds: float, *flags: str) -> None:
        json = self.paths.results / f"{name}.json"
        bench = (self.bin("latentd"), "bench", "denoise", "--device", "cuda:0", "--json", json)
        self.step(name, seconds, *bench, *flags, show=narrow)

    def peer(self, name: str, seconds: float, *command: str, packages: tuple[str, ...]) -> None:
        """A program of benches/peers, on the packages of the pack."""
        env = self.at.peers_env | {"PYTHONPATH": str(self.paths.pack / "site")}
        missing = lacks_packages(self.paths.python, self.paths.env | env, *packages)
        json = self.paths.results / f"{name}.json"
        script, *flags = command
        self.step(
            name, seconds, self.paths.python, f"benches/peers/{script}", *flags, "--json", json,
            show=narrow, env=env, missing=missing,
        )  # fmt: skip


def call_1(paths: Paths, at: Full | Small) -> list[Step]:
    """Correctness and profiles: finds what has to be repaired before the second call."""
    table = Table(paths, at)
    tests = table.bin("test-gpu")
    table.step("card", 10, "nvidia-smi", "-q", missing=lacks_tool("nvidia-smi"))
    table.step("doctor", 15, table.bin("latentd"), "doctor", "--device", "cuda:0", show=narrow)
    # One block, all kernels, one comparison each.
    table.denoise("block-bf16", 30, *at.block, "--dtype", "bf16", "--runs", "1")
    table.step("smoke", 40, tests, *at.smoke)
    table.step("smoke-fp8", 20, table.bin("test-models"), "fp8::")
    # The loop's own sizes, against plain f32 on the same card.
    table.step("shapes", 60, tests, "shapes::", "--nocapture")
    table.denoise("large-bf16", 60, *at.large, "--dtype", "bf16", "--runs", "1", "--profile")
    table.denoise("large-fp8", 50, *at.large, "--dtype", "fp8", "--runs", "1", "--profile")
    # Every variant of attention and of the products' epilogues at the loop's sizes.
    table.step("ops", 60, table.bin("ops"), "--step", "--json", paths.results / "ops.json", *at.ops, show=narrow)
    return table.steps


def call_2(paths: Paths, at: Full | Small) -> list[Step]:
    """The numbers to publish."""
    table = Table(paths, at)
    latentd, tests = table.bin("latentd"), table.bin("test-gpu")
    table.step("parity", 60, tests, *at.parity)
    table.denoise("large-bf16", 60, *at.large, "--dtype", "bf16", "--runs", at.runs)
    table.peer("torch", 40, "torch_baseline.py", *at.torch, packages=("torch",))
    table.peer("diffusers", 160, "diffusers_gpu.py", *at.peer, "--compile", "--runs", at.runs, packages=("torch", "diffusers"))
    table.denoise("large-fp8", 60, *at.large, "--dtype", "fp8", "--runs", at.runs)
    table.denoise("large-512", 40, *at.large_512, "--dtype", "bf16", "--runs", at.runs)
    table.denoise("medium-bf16", 40, *at.medium, "--dtype", "bf16", "--runs", at.runs)
    # A seed gives the same bytes in every process with the same stored choice of algorithms; other choices may change bits.
    for name in "image", "image-again", "image-anew":
        generate = (latentd, "generate", "a red house on the left of a lake at sunset", "--seed", "7", "--device", "cuda:0")
        env = {"XDG_DATA_HOME": str(paths.pack / "anew")} if name == "image-anew" else {}
        table.step(name, 30, *generate, *at.image, "-o", paths.results / f"{name}.png", env=env)
    images = [paths.results / f"{name}.png" for name in ("image", "image-again", "image-anew")]
    table.step("same-bytes", 5, "cmp", *images[:2])
    # These may be equal or not.
    other = 'cmp "$0" "$1" && echo the same bytes || echo other bytes, which is allowed'
    table.step("anew-bytes", 5, "sh", "-c", other, images[0], images[2], show=narrow)
    # Optional: unit tests, and the effect of a second stream and of a guidance interval.
    table.step("choices", 30, table.bin("test-kernels"), "cuda::")
    table.step("models", 60, table.bin("test-models"), *at.models)
    table.denoise("large-one-stream", 40, *at.large, "--dtype", "bf16", "--runs", at.runs, "--one-stream")
    table.denoise("large-interval", 40, *at.large, "--dtype", "bf16", "--runs", at.runs, "--guidance-interval", "0.3,0.9")
    for tool in "memcheck", "racecheck":
        sanitize = ("compute-sanitizer", "--tool", tool, "--error-exitcode", "1")
        table.step(f"sanitizer-{tool}", 60, *sanitize, tests, *at.sanitized, missing=lacks_tool("compute-sanitizer"))
    return table.steps


CALLS: dict[str, Callable[[Paths, Full | Small], list[Step]]] = {"1": call_1, "2": call_2}
