"""Compare a PNG that latentd generated with the image that diffusers generates, in f32 on the CPU.

    latentd generate "a cat" --model DIR --seed 7 --steps 6 --width 160 --height 96 --guidance 4.5 --safety-checker none \\
        --dtype f32 --device cpu -o ours.png
    python tests/parity/compare.py --model DIR --ours ours.png --prompt "a cat" --seed 7 --steps 6 \\
        --width 160 --height 96 --guidance 4.5

Exit code 1 when the mean difference is 0.5/255 or more, or one value is off by more than 3.
"""

import argparse
import pathlib
import sys

import make_model as mm
import numpy
import torch
from PIL import Image


def reference(model: pathlib.Path, prompt: str, negative: str, seed: int, steps: int, width: int, height: int,
              guidance: float, max_sequence_length: int = 256) -> numpy.ndarray:  # fmt: skip
    """diffusers' image, [height, width, 3] u8."""
    with torch.no_grad():
        image = mm.load(model)(
            prompt,
            negative_prompt=negative,
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=guidance,
            max_sequence_length=max_sequence_length,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
    return numpy.asarray(image.convert("RGB"))


def difference(ours: pathlib.Path, theirs: numpy.ndarray) -> tuple[float, int]:
    """Mean and maximum difference of the 8-bit values."""
    image = numpy.asarray(Image.open(ours).convert("RGB"))
    if image.shape != theirs.shape:
        sys.exit(f"{ours} is {image.shape[1]}x{image.shape[0]}, diffusers generated {theirs.shape[1]}x{theirs.shape[0]}")
    distance = numpy.abs(image.astype(int) - theirs.astype(int))
    return float(distance.mean()), int(distance.max())


def close(mean: float, most: int) -> bool:
    """Whether the images agree as ARCHITECTURE.md states: equal except for rounding."""
    return mean < 0.5 and most <= 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--ours", type=pathlib.Path, required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--negative", default="")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--guidance", type=float, required=True)
    parser.add_argument("--max-sequence-length", type=int, default=256)
    args = vars(parser.parse_args())
    ours = args.pop("ours")
    mean, most = difference(ours, reference(**args))
    print(f"mean {mean:.4f}/255, max {most}")
    sys.exit(not close(mean, most))


if __name__ == "__main__":
    main()
