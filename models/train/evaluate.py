"""Measures how many attributes of a prompt the built-in model generates, whether objects are whole, and how sharp edges are.

    python models/train/evaluate.py LATENTD --count 200 --out FOLDER        measures `LATENTD generate`
    python models/train/evaluate.py --drawn --count 200                     measures the judge on drawn scenes
    … --rich                                                                on crowded and on almost empty scenes
    … --out A; … --out B --beside A --flag=--first-block-cache=0.1          and the PSNR of B's images to A's

Prompts are complete captions of held-out scenes, at fal's six preset sizes. The judge (`judge.py`), a classifier trained
only on drawn scenes, predicts the attributes of an image; a second one (`whole.py`), if it is trained, predicts whether
its objects are whole. Needs numpy and pillow; `--drawn` and the edges of drawn scenes need skia-python.
The last line is a JSON object; with `--least SHARE` another line after it and the exit status report whether the share of
all attributes was reached.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import subprocess
import sys

import numpy as np
from labels import CLASSES, OBJECTS, labels
from look import PERCENTILES, Judge, WholeJudge, edges
from PIL import Image
from sizes import HELD_OUT, RICH, scene_of, size_of
from world import captions

SKY = ("sun", "moon", "stars", "clouds", "aurora", "weather")
LAND = ("ground", "backdrop")
PRESENT = ("path", "fence", "bridge", "mushrooms")


def asked(wanted: dict[str, int]) -> dict[str, list[str]]:
    """The labels that a complete caption determines, by row of the table."""
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
    """Whether a label is as wanted; `name?` only compares whether the thing is present."""
    bare = name.removesuffix("?")
    return bool(seen[bare]) if bare != name else seen[bare] == wanted[bare]


def score(pairs: list[tuple[dict[str, int], dict[str, int]]]) -> dict[str, tuple[int, int]]:
    """Counts of right and of asked, for every row, every label, and absent things; only labels that the judge knows."""
    table: dict[str, list[int]] = {}

    def count(row: str, hit: bool) -> None:
        found = table.setdefault(row, [0, 0])
        found[0] += hit
        found[1] += 1

    for wanted, seen in pairs:
        for row, names in asked(wanted).items():
            for name in names:
                if name.removesuffix("?") not in seen:
                    continue
                count(row, right(name, wanted, seen))
                count(
                    f"  {name.removesuffix('?')}" if row != "things present" else f"  {name}", right(name, wanted, seen)
                )
        for name in (*SKY, *PRESENT, "flower", *(one for one in CLASSES if one.endswith(" count"))):
            if not wanted[name] and name in seen:
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


def name_of(index: int) -> str:
    return f"rich-{index - HELD_OUT - RICH:04}" if index >= RICH else f"{index - HELD_OUT:04}"


def wholeness(wanted: dict[str, int], seen: dict[str, int], whole: dict[str, bool]) -> dict[str, bool]:
    """Whether each object is whole, of those that were asked for and that the judge finds."""
    there = lambda found, name: found.get(name if name == "bridge" else f"{name} count", 0) > 0
    return {name: value for name, value in whole.items() if there(wanted, name) and there(seen, name)}


def report_wholeness(found: list[dict[str, bool]]) -> dict[str, tuple[int, int]]:
    print("| object | whole | present | share |\n|---|---|---|---|")
    table = {}
    for name in OBJECTS:
        if values := [one[name] for one in found if name in one]:
            table[name] = (sum(values), len(values))
            print(f"| {name} | {sum(values)} | {len(values)} | {100 * sum(values) / len(values):.1f} % |")
    return table


def report_edges(made: list[np.ndarray], drawn: list[np.ndarray]) -> dict[str, list[float]]:
    """Mean percentiles of the gradients of the images, and of the same scenes drawn."""
    print("| edges, levels a pixel | " + " | ".join(f"{p} %" for p in PERCENTILES) + " |\n|---|---|---|---|")
    found = {}
    for name, values in (("images", made), ("drawn scenes", drawn)):
        if values:
            found[name] = [round(float(value), 1) for value in np.mean(values, 0)]
            print(f"| {name} | " + " | ".join(map(str, found[name])) + " |")
    return found


def generate(options: argparse.Namespace, index: int, prompt: str) -> Image.Image:
    width, height = size_of(index)
    path = options.out / f"{name_of(index)}.png"
    if not path.exists():
        settings = {"seed": index, "width": width, "height": height}
        settings |= {"guidance": options.guidance, "steps": options.steps}
        # The checker would make images of pirate flags black.
        settings["safety-checker"] = "none"
        command = [options.latentd, "generate", prompt, f"--output={path}"]
        command += [f"--{name}={value}" for name, value in settings.items()] + options.flag
        subprocess.run(command, check=True, capture_output=True)
    return Image.open(path)


def drawing(index: int) -> Image.Image | None:
    """The scene as drawn by `world`, if skia is installed."""
    try:
        from world import render
    except ImportError:
        return None
    return Image.fromarray(render.render(scene_of(index), *size_of(index)))


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
    parser.add_argument("--rich", action="store_true", help="crowded and almost empty scenes")
    parser.add_argument("--least", type=float)
    parser.add_argument("--judge", type=pathlib.Path, default=pathlib.Path(__file__).with_name("judge.npz"))
    parser.add_argument("--whole", type=pathlib.Path, default=pathlib.Path(__file__).with_name("whole.npz"))
    options = parser.parse_args()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    judge, pairs, ratios = Judge(options.judge), [], []
    whole_judge = WholeJudge(options.whole) if options.whole.exists() else None
    whole, made_edges, drawn_edges = [], [], []
    start = HELD_OUT + options.first + (RICH if options.rich else 0)
    for index in range(start, start + options.count):
        scene = scene_of(index)
        prompt = captions.caption(scene, random.Random(f"prompt {index}"), complete=True)
        drawn = drawing(index)
        if options.drawn:
            if drawn is None:
                parser.error("--drawn needs skia-python")
            image = drawn
        else:
            image = generate(options, index, prompt)
            if options.beside:
                ratios.append(psnr(image, Image.open(options.beside / f"{name_of(index)}.png")))
        wanted, seen = labels(scene), judge(image)
        pairs.append((wanted, seen))
        if whole_judge:
            whole.append(wholeness(wanted, seen, whole_judge(image)))
        made_edges.append(edges(image))
        drawn_edges += [] if drawn is None else [edges(drawn)]
    table = score(pairs)
    share = report(table)
    summary = {"share": round(share, 4)} | {row: table[row] for row in ROWS if row in table}
    if whole_judge:
        summary["whole"] = report_wholeness(whole)
    summary["edges"] = report_edges(made_edges, drawn_edges)
    if ratios:
        summary["psnr"] = {"median": round(float(np.median(ratios)), 1), "least": round(min(ratios), 1)}
    print(json.dumps(summary))
    if options.least is None:
        return 0
    good = share >= options.least
    print(f"images: {int(good)} passed, {int(not good)} failed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
