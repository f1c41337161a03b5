#!/usr/bin/env python3
"""Writes tests/images/avif/NAME.avif and, as NAME.png, the pixels that Pillow (libavif) decodes of it; and
tests/images/large.avif, which takes the most memory for its pixels.

Needs Pillow 11.3 or newer, numpy, and avifenc (on Debian: apt install libavif-bin) for what Pillow does not write.
"""
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent / "avif"
ORIENTATION = 0x0112


def image(width, height):
    """Gradients of every colour with a dark disc and a line of one pixel in it."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 / width, y * 255 / height, 255 - (x + y) * 255 / (width + height)], -1)
    pixels[(x - width / 3) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] = (20, 40, 160)
    pixels[:, width * 3 // 4] = (250, 240, 10)
    return Image.fromarray(pixels.round().astype("uint8"))


def by_pillow(name, source=None, **options):
    (source or image(45, 31)).save(HERE / f"{name}.avif", **{"quality": 80, "speed": 4, **options})


def by_avifenc(name, *options, size=(45, 31)):
    source = HERE / "source.png"
    image(*size).save(source)
    command = ["avifenc", "--jobs", "1", "--speed", "4", *options, source, HERE / f"{name}.avif"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    source.unlink()


def main():
    for old in HERE.glob("*"):
        old.unlink()
    for layout in ["4:4:4", "4:2:2", "4:2:0", "4:0:0"]:
        by_pillow(f"8-bit-{layout.replace(':', '')}", subsampling=layout)
        by_avifenc(f"10-bit-{layout.replace(':', '')}", "--depth", "10", "--yuv", layout.replace(":", ""))
    by_avifenc("12-bit-420", "--depth", "12", "--yuv", "420")
    by_avifenc("12-bit-444-limited", "--depth", "12", "--yuv", "444", "--range", "limited")
    by_pillow("limited", range="limited")
    by_avifenc("bt709", "--cicp", "1/13/1", "--yuv", "420")
    by_avifenc("bt709-limited", "--cicp", "1/13/1", "--yuv", "420", "--range", "limited")
    by_avifenc("bt2020", "--cicp", "9/13/9", "--yuv", "444")
    by_avifenc("identity", "--lossless")
    by_avifenc("grid", "--grid", "2x2", size=(128, 128))
    by_pillow("grain", advanced={"film-grain-test": "3"})
    transparent = image(45, 31)
    transparent.putalpha(Image.linear_gradient("L").resize((45, 31)))
    by_pillow("alpha", transparent)
    by_pillow("animation", save_all=True, append_images=[ImageOps.invert(image(45, 31))])
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        by_pillow(f"orientation-{orientation}", exif=exif)
    grey = Image.linear_gradient("L").resize((2800, 2800))
    grey.save(HERE / "source.png")
    command = ["avifenc", "--jobs", "1", "--speed", "10", "--depth", "10", "--yuv", "444"]
    command += ["-a", "film-grain-test=3", HERE / "source.png", HERE.parent / "large.avif"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (HERE / "source.png").unlink()
    for file in sorted(HERE.glob("*.avif")):
        with Image.open(file) as opened:
            ImageOps.exif_transpose(opened).convert("RGB").save(file.with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    sys.exit(main())
