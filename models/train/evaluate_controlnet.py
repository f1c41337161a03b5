"""Measures how closely images of the built-in model follow a control image by its ControlNet.

    python models/train/evaluate_controlnet.py LATENTD --count 20 --out FOLDER

Held-out scenes are drawn; a control image of their edges and their complete caption are given to `LATENTD generate`. In the
image that it makes the edges are found in the same way (`control_image.py`) and compared with those of the control image:
their intersection over their union, the share of the control image's lines that the image has, and the share of the image's
that the control image has. At scale 0 the ControlNet adds nothing: what is left is what the caption alone says of the layout.
The last line is a JSON object. Needs numpy, pillow and skia-python.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import subprocess

import numpy as np
from control_image import control_image, lines
from evaluate import name_of
from images import draw_scene
from PIL import Image
from sizes import HELD_OUT, scene_of
from world import captions

HERE = pathlib.Path(__file__).parent
COLUMNS = ("overlap", "control lines drawn", "lines in the control image")


def generate(options: argparse.Namespace, index: int, prompt: str, control: pathlib.Path, scale: float) -> Image.Image:
    """The image of a prompt, as large as the control image."""
    path = options.out / f"{name_of(index)}-{scale:g}.png"
    if not path.exists():
        settings = {"seed": index, "steps": options.steps, "safety-checker": "none", "output": path}
        settings |= {"controlnet": options.net, "control-image": control, "control-scale": scale}
        command = [options.latentd, "generate", prompt, *(f"--{name}={value}" for name, value in settings.items())]
        subprocess.run(command, check=True, capture_output=True)
    return Image.open(path)


def compare(wanted: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """Intersection over union of two masks, and its share of each."""
    both = np.count_nonzero(wanted & found)
    return both / np.count_nonzero(wanted | found), both / np.count_nonzero(wanted), both / max(1, np.count_nonzero(found))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("latentd")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--scales", type=float, nargs="+", default=(0, 0.5, 1))
    parser.add_argument("--prompt", help="of every image, in place of the captions")
    parser.add_argument("--net", type=pathlib.Path, default=HERE.parent / "mini-controlnet")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found = {scale: [] for scale in options.scales}
    for index in range(HELD_OUT, HELD_OUT + options.count):
        drawn = Image.fromarray(draw_scene(index))
        control = options.out / f"{name_of(index)}-control.png"
        control_image(drawn).save(control)
        caption = captions.caption(scene_of(index), random.Random(f"prompt {index}"), complete=True)
        for scale in options.scales:
            image = generate(options, index, options.prompt or caption, control, scale)
            found[scale].append(compare(lines(drawn), lines(image)))
    print(f"| scale | {' | '.join(COLUMNS)} |\n|---|---|---|---|")
    means = {scale: np.mean(values, 0) for scale, values in found.items()}
    for scale, values in means.items():
        print(f"| {scale:g} | {' | '.join(f'{value:.3f}' for value in values)} |")
    print(json.dumps({f"{scale:g}": [round(float(value), 4) for value in values] for scale, values in means.items()}))


if __name__ == "__main__":
    main()
