"""Train the built-in model from nothing and write it to models/mini.

    pip install -r models/train/requirements.txt
    python models/train/train.py WORK

WORK keeps what every stage leaves, so that a run that was cut off goes on with the next stage (the transformer in the
middle of its own). Seeds are fixed; the order in which two threads add numbers is not, so two runs agree in what they
paint, not in bytes.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
MINI = HERE.parent / "mini"
# Stage, its argument (steps, or files of 512 scenes), and the file that says that it is done.
STAGES = (
    ("vae", 4000, "vae.pt"),
    ("text", 1200, "text.pt"),
    ("latents", 12, "latents-0011.pt"),
    ("transformer", 8000, "transformer.done"),
    ("decoder", 2500, "decoder.pt"),
    ("safety", 1000, "safety.pt"),
    ("judge", 4000, "judge.npz"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--again", help="a stage to run although its file is there")
    options = parser.parse_args()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    for stage, amount, done in STAGES:
        if (work / done).exists() and stage != options.again:
            continue
        print(f"== {stage} {amount}", flush=True)
        subprocess.run([sys.executable, HERE / f"{stage}.py", work, str(amount)], check=True)
    import curves
    import export

    export.write(work, MINI)
    curves.draw(work / "log.jsonl", MINI / "curves.png")
    shutil.copy(work / "log.jsonl", MINI / "training.jsonl")
    shutil.copy(work / "judge.npz", HERE / "judge.npz")
    return 0


if __name__ == "__main__":
    sys.exit(main())
