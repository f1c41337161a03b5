"""Generates 24 images of prompts that no caption of the training is like, with seeds 1 to 24, and a sheet of them.

    python models/train/samples.py LATENTD --out FOLDER [--flag=--model=DIRECTORY]
    python models/train/samples.py LATENTD --out docs/images --count 8        the README's, with seeds 1 to 8

Seeds are not chosen: prompt number N has seed N. Images that are already in FOLDER are kept.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess

from evaluate_long import PROMPT
from PIL import Image

PROMPTS = {
    "red-house": "a red house on the left of a lake at sunset, two boats",
    "sunrise": "a sunrise over the mountains, a small white house on the right, a winding path, yellow flowers",
    "three-boats": "three red boats on the sea at noon, white clouds",
    "torii": "aurora and stars over a snow field at night, a torii gate in the middle",
    "mushrooms": "glowing mushrooms in a forest at night, a full moon",
    "rain": "rain over green hills, a tall tower on the left, a fence",
    "koi-pond": "a cherry blossom tree beside a koi pond, a wooden bridge, paper lanterns, a crescent moon, twilight",
    "garden": PROMPT,
    "torii-noon": "torii gate, noon, meadow, clouds",
    "two-houses": "Two yellow houses stand in the meadow under a bright noon sky.",
    "empty-sea": "the sea at night, nothing else",
    "bridge": "A wooden bridge. Still water. Twilight. One pink lantern.",
    "desert-tower": "a lonely tower in the desert at sunset",
    "snow-house": "snow is falling on a blue house on the right, forest behind",
    "white-boat": "one white boat in the middle of a lake at sunrise, mountains behind",
    "cherry-trees": "a cherry tree on the left and a wooden fence on a meadow, morning light",
    "lanterns": "six red lanterns float above a dark lake, crescent moon",
    "green-hills": "nothing but green hills and clouds at noon",
    "flowers": "a field of red flowers, a brown tree on the right, sunshine",
    "banner-tower": "a red flag on a tower",
    "pirate": "a pirate flag on a hill at twilight",
    "night-village": "three houses by night with a full moon and stars",
    "garden-house": "a white house in a Japanese garden, cherry blossoms, koi pond, noon",
    "path-mountains": "a path leads through the snow field to the mountains, sunset",
}
COLUMNS = 6


def sheet(images: list[Image.Image]) -> Image.Image:
    """All images at a quarter of their size, in rows of six."""
    width, height = (side // 4 for side in images[0].size)
    made = Image.new("RGB", (COLUMNS * width, -(-len(images) // COLUMNS) * height))
    for i, image in enumerate(images):
        made.paste(image.resize((width, height)), (i % COLUMNS * width, i // COLUMNS * height))
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("latentd")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--count", type=int, default=len(PROMPTS))
    parser.add_argument("--flag", action="append", default=[], help="one more flag for `generate`")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    images = []
    for seed, (name, prompt) in enumerate(list(PROMPTS.items())[: options.count], 1):
        path = options.out / f"{name}.jpg"
        if not path.exists():
            # The checker would make the image of the pirate flag black.
            command = [options.latentd, "generate", prompt, "-o", path, "--seed", str(seed), "--safety-checker", "none"]
            subprocess.run([*command, *options.flag], check=True, capture_output=True)
        images.append(Image.open(path))
    if options.count == len(PROMPTS):
        sheet(images).save(options.out / "sheet.png")


if __name__ == "__main__":
    main()
