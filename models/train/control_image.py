"""Makes a control image of the edges of a picture, as the ControlNet of the built-in model takes it.

    python models/train/control_image.py PICTURE OUT.png [--threshold 4]

White lines on black where the luminance, blurred a little, changes by more than the threshold. A photograph with much
texture wants a higher threshold. Needs numpy and pillow.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
from PIL import Image, ImageFilter

# In pixels of a picture whose shorter side has 768: the blur's standard deviation, and the width of lines.
BLUR, WIDTH, SIDE = 2.0, 7.0, 768
# Levels of 255 that the luminance changes by, a pixel of such a picture.
THRESHOLD = 4.0


def lines(picture: Image.Image, threshold: float = THRESHOLD) -> np.ndarray:
    """Where the lines are: `[height, width]` bool."""
    unit = min(picture.size) / SIDE
    blurred = picture.convert("L").filter(ImageFilter.GaussianBlur(BLUR * unit))
    down, across = np.gradient(np.asarray(blurred, np.float32))
    edges = Image.fromarray(np.hypot(down, across) * unit > threshold).convert("L")
    width = 2 * round((WIDTH * unit - 1) / 2) + 1
    return np.asarray(edges.filter(ImageFilter.MaxFilter(max(width, 3)))) > 0


def control_image(picture: Image.Image, threshold: float = THRESHOLD) -> Image.Image:
    """The lines in white on black, RGB."""
    return Image.fromarray(lines(picture, threshold)).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    options = parser.parse_args()
    control_image(Image.open(options.picture), options.threshold).save(options.out)


if __name__ == "__main__":
    main()
