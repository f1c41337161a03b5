"""How often the built-in model paints what it was asked for.

    python models/train/evaluate.py LATENTD --count 200 --out FOLDER        measures `LATENTD generate`
    python models/train/evaluate.py --drawn --count 200                     measures the judge on drawn scenes
    … --out A; … --out B --beside A --flag=--first-block-cache=0.1          and how far B's pictures are from A's

Prompts are complete captions of scenes that training never saw, at fal's six preset sizes. What is in a picture is
read off it by the judge (`judge.py`), which knows drawn scenes only. Needs numpy and pillow; `--drawn` skia-python.
The last line is a JSON object; with `--least SHARE` one more says whether the share over all was reached, and so does
the exit status.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import subprocess
import sys

import numpy as np
from labels import CLASSES, labels
from PIL import Image
from sizes import HELD_OUT, scene_of, size_of
from world import captions

SKY = ("sun", "moon", "stars", "clouds", "aurora", "weather")
LAND = ("ground", "backdrop")
PRESENT = ("path", "fence", "bridge", "mushrooms")


class Judge:
    """`judge.py`'s network on numpy."""

    def __init__(self, path: pathlib.Path):
        self.weights = {name: value.astype(np.float32) for name, value in np.load(path).items()}

    def __call__(self, picture: Image.Image) -> dict[str, int]:
        """The class number of every label."""
        small = picture.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        x = np.asarray(small).transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
        layer = 0
        while f"conv{layer}.weight" in self.weights:
            x = self.conv(x, f"conv{layer}")
            layer += 1
        narrow = self.weights["narrow.weight"][:, :, 0, 0]
        x = np.einsum("oc,cyx->oyx", narrow, x) + self.weights["narrow.bias"][:, None, None]
        x = self.linear(np.maximum(x, 0).reshape(-1), "hidden")
        logits = self.linear(np.maximum(x, 0), "out")
        found, start = {}, 0
        for name, values in CLASSES.items():
            found[name] = int(logits[start : start + len(values)].argmax())
            start += len(values)
        return found

    def conv(self, x: np.ndarray, name: str) -> np.ndarray:
        """3x3, stride 2, padding 1, ReLU."""
        weight = self.weights[f"{name}.weight"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
        made = np.tensordot(weight, windows, ((1, 2, 3), (0, 3, 4)))
        return np.maximum(made + self.weights[f"{name}.bias"][:, None, None], 0)

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]


def asked(wanted: dict[str, int]) -> dict[str, list[str]]:
    """The labels that a complete caption fixes, by the row of the table they count in."""
    rows = {"time of day": ["time"], "land": [name for name in LAND if wanted[name] or name == "ground"]}
    rows["sky"] = [name for name in SKY if wanted[name]]
    counted = [name for name in CLASSES if name.endswith(" count") and wanted[name]]
    rows["things present"] = [name for name in PRESENT if wanted[name]] + [f"{name}?" for name in counted]
    rows["things present"] += ["flower?"] if wanted["flower"] else []
    rows["colour"] = [name for name in CLASSES if name.endswith(" colour") and wanted[name]]
    rows["colour"] += ["flower"] if wanted["flower"] else []
    rows["side"] = [name for name in CLASSES if name.endswith(" side") and wanted[name]]
    rows["count"] = [name for name in counted if len(CLASSES[name]) > 2]
    rows["size"] = [
        name for name in CLASSES if name.endswith(" size") and CLASSES[name][wanted[name]] in ("big", "small")
    ]
    return rows


def right(name: str, wanted: dict[str, int], seen: dict[str, int]) -> bool:
    """Whether a label is as wanted; `name?` asks only whether the thing is there."""
    bare = name.removesuffix("?")
    return bool(seen[bare]) if bare != name else seen[bare] == wanted[bare]


def score(pairs: list[tuple[dict[str, int], dict[str, int]]]) -> dict[str, tuple[int, int]]:
    """Right and asked for every row, for every label (in brackets), and for what should be absent."""
    table: dict[str, list[int]] = {}

    def count(row: str, hit: bool) -> None:
        found = table.setdefault(row, [0, 0])
        found[0] += hit
        found[1] += 1

    for wanted, seen in pairs:
        for row, names in asked(wanted).items():
            for name in names:
                count(row, right(name, wanted, seen))
                count(
                    f"  {name.removesuffix('?')}" if row != "things present" else f"  {name}", right(name, wanted, seen)
                )
        for name in (*SKY, *PRESENT, "flower", *(one for one in CLASSES if one.endswith(" count"))):
            if not wanted[name]:
                count("nothing else", seen[name] == 0)
    return {row: tuple(values) for row, values in table.items()}


ROWS = ("time of day", "sky", "land", "things present", "colour", "side", "count", "size", "nothing else")


def report(table: dict[str, tuple[int, int]]) -> float:
    """Prints the table; returns the share over all asked attributes."""
    hits = sum(table[row][0] for row in ROWS[:-1] if row in table)
    total = sum(table[row][1] for row in ROWS[:-1] if row in table)
    print("| attribute | right | asked | share |\n|---|---|---|---|")
    for row in (*ROWS, *sorted(row for row in table if row.startswith(" "))):
        if row in table:
            a, b = table[row]
            print(f"| {row} | {a} | {b} | {100 * a / b:.1f} % |")
    print(f"| **all asked** | {hits} | {total} | {100 * hits / total:.1f} % |")
    return hits / total


def paint(options: argparse.Namespace, index: int, prompt: str) -> Image.Image:
    width, height = size_of(index)
    path = options.out / f"{index - HELD_OUT:04}.png"
    if not path.exists():
        settings = {"seed": index, "width": width, "height": height}
        settings |= {"guidance": options.guidance, "steps": options.steps}
        # A flag would come back black.
        settings["safety-checker"] = "none"
        command = [options.latentd, "generate", prompt, f"--output={path}"]
        command += [f"--{name}={value}" for name, value in settings.items()] + options.flag
        subprocess.run(command, check=True, capture_output=True)
    return Image.open(path)


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal to noise ratio in dB."""
    error = np.square(np.asarray(a.convert("RGB"), np.float64) - np.asarray(b.convert("RGB"), np.float64)).mean()
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("latentd", nargs="?")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--guidance", type=float, default=3.5)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--flag", action="append", default=[], help="one more flag for `generate`")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--beside", type=pathlib.Path, help="the folder of another run")
    parser.add_argument("--drawn", action="store_true")
    parser.add_argument("--least", type=float)
    parser.add_argument("--judge", type=pathlib.Path, default=pathlib.Path(__file__).with_name("judge.npz"))
    options = parser.parse_args()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    judge, pairs, ratios = Judge(options.judge), [], []
    for index in range(HELD_OUT + options.first, HELD_OUT + options.first + options.count):
        scene = scene_of(index)
        prompt = captions.caption(scene, random.Random(f"prompt {index}"), complete=True)
        if options.drawn:
            from world import render

            picture = Image.fromarray(render.render(scene, *size_of(index)))
        else:
            picture = paint(options, index, prompt)
            if options.beside:
                ratios.append(psnr(picture, Image.open(options.beside / f"{index - HELD_OUT:04}.png")))
        pairs.append((labels(scene), judge(picture)))
    table = score(pairs)
    share = report(table)
    summary = {"share": round(share, 4)} | {row: table[row] for row in ROWS if row in table}
    if ratios:
        summary["psnr"] = {"median": round(float(np.median(ratios)), 1), "least": round(min(ratios), 1)}
    print(json.dumps(summary))
    if options.least is None:
        return 0
    good = share >= options.least
    print(f"pictures: {int(good)} passed, {int(not good)} failed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
