"""How often a negative prompt removes what it names.

    python models/train/negative.py LATENTD --out FOLDER

A prompt that names one thing leaves land and time of day to the model. Those that the judge finds become the negative prompt
of a second image with the same prompt and seed, in which they should be absent. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess

import evaluate
from labels import CLASSES
from PIL import Image

PROMPTS = (
    "a red house",
    "a tall tower",
    "a torii gate",
    "a cherry blossom tree",
    "paper lanterns",
    "glowing mushrooms",
    "white clouds",
    "flowers",
)
LABELS = ("ground", "time")


def generate(options: argparse.Namespace, prompt: str, seed: int, negative: str) -> Image.Image:
    path = options.out / f"{prompt}-{seed}-{negative}.png".replace(" ", "_")
    command = [options.latentd, "generate", prompt, "-o", path, "--seed", seed, "--width", 768, "--height", 512]
    command += ["--safety-checker", "none", "--negative-prompt", negative]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return Image.open(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("latentd")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--judge", type=pathlib.Path, default=pathlib.Path(__file__).with_name("judge.npz"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    judge, gone = evaluate.Judge(options.judge), {label: [] for label in LABELS}
    for prompt in PROMPTS:
        for seed in range(options.seeds):
            before = judge(generate(options, prompt, seed, ""))
            for label in LABELS:
                named = CLASSES[label][before[label]]
                after = judge(generate(options, prompt, seed, named))
                gone[label].append(after[label] != before[label])
                if not gone[label][-1]:
                    print(f"{prompt}, seed {seed}: {named} stays")
    print(json.dumps({label: [sum(found), len(found)] for label, found in gone.items()}))


if __name__ == "__main__":
    main()
