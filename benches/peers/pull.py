#!/usr/bin/env python3
"""Compares a pull of 2 GB from a hub on this machine by `latentd models pull` and `huggingface_hub.snapshot_download`.

    benches/peers/pull.py TARGET [RUNS]

TARGET is the folder of a build of `cargo build --release --bins --examples`; run it with a Python that has
huggingface_hub. The hub is the stand-in of the tests. Every run starts with an empty cache in a new process,
alternately for the two; printed are the median of seconds and the largest resident set. Needs 5 GB in $TMPDIR.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = "me/large"
# Like the parts of a model: one large file, a medium one, and small ones.
LARGE = {
    "transformer/diffusion_pytorch_model.safetensors": 1_100_000_000,
    "text_encoder_3/model.safetensors": 600_000_000,
    "text_encoder_2/model.safetensors": 200_000_000,
    "vae/diffusion_pytorch_model.safetensors": 100_000_000,
}
PEER = f"from huggingface_hub import snapshot_download; print(snapshot_download({NAME!r}))"


def main():
    target, runs = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    commands = {
        "latentd": [target / "latentd", "models", "pull", NAME],
        "huggingface_hub": [sys.executable, "-c", PEER],
    }
    with tempfile.TemporaryDirectory() as folder:
        model, home = pathlib.Path(folder) / "model", pathlib.Path(folder) / "home"
        make(model)
        hub = subprocess.Popen(
            [target / "examples/hub-stand-in", f"{NAME}={model}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        url = hub.stdout.readline().strip()
        shutil.rmtree(model)  # the hub holds it in memory
        environment = os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        measured = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                shutil.rmtree(home, ignore_errors=True)
                measured[name].append(run(command, environment))
        hub.stdin.close()
        hub.wait()
    print(f"{sum(LARGE.values()) / 1e9:.1f} GB, {runs} runs each, load {os.getloadavg()[0]:.1f} at the end")
    for name, rows in measured.items():
        seconds = ", ".join(f"{row[0]:.1f}" for row in rows)
        print(f"{name:<16} {statistics.median(row[0] for row in rows):5.1f} s ({seconds}); {max(row[1] for row in rows):.0f} MB")


def make(model):
    shutil.copytree(ROOT / "tests/parity/golden/base/model", model)
    for path, size in LARGE.items():
        with open(model / path, "wb") as file:
            for _ in range(size // 10_000_000):
                file.write(os.urandom(10_000_000))


def run(command, environment):
    """Seconds, and the largest resident set in MB."""
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    assert status == 0, f"{command[0]} failed"
    return seconds, usage.ru_maxrss / 1000


if __name__ == "__main__":
    main()
