"""Checks that all things of a long prompt are in the image: the example prompt of fal's page for Stable Diffusion 3.5 Large.

    python models/train/evaluate_long.py LATENTD --out FOLDER [--model DIRECTORY]

Seeds 1 to 8 at the defaults of `latentd generate`. The judge classifies the images; the last line is a JSON object with
the number of seeds whose image has each thing, and all of them.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess

from labels import CLASSES
from look import Judge
from PIL import Image

PROMPT = (
    "A dreamlike Japanese garden in perpetual twilight, bathed in bioluminescent cherry blossoms that emit a soft "
    "pink-purple glow. Floating paper lanterns drift lazily through the scene, their warm light creating dancing "
    "reflections in a mirror-like koi pond. Ethereal mist weaves between ancient stone pathways lined with glowing "
    "mushrooms in pastel blues and purples. A traditional wooden bridge arches gracefully over the water, dusted with "
    "fallen petals that sparkle like stardust. The scene is captured through a cinematic lens with perfect bokeh, "
    "creating an otherworldly atmosphere. In the background, a crescent moon hangs impossibly large in the sky, "
    "surrounded by a sea of stars and auroral wisps in teal and violet. Crystal formations emerge from the ground, "
    "refracting the ambient light into rainbow prisms. The entire composition follows the golden ratio, with moody "
    "film-like color grading reminiscent of Studio Ghibli, enhanced by volumetric god rays filtering through the "
    "luminous foliage. 8K resolution, masterful photography, hyperdetailed, magical realism."
)
WANTED = {
    "bridge": lambda seen: bool(seen["bridge"]),
    "moon": lambda seen: bool(seen["moon"]),
    "lanterns": lambda seen: bool(seen["lantern count"]),
    "cherry tree": lambda seen: bool(seen["cherry count"]),
    "pond": lambda seen: CLASSES["ground"][seen["ground"]] == "garden",
    "mushrooms": lambda seen: bool(seen["mushrooms"]),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("latentd")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--model", help="as `latentd generate --model`")
    parser.add_argument("--judge", type=pathlib.Path, default=pathlib.Path(__file__).with_name("judge.npz"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    judge, shown, all_shown = Judge(options.judge), dict.fromkeys(WANTED, 0), 0
    for seed in range(1, options.seeds + 1):
        path = options.out / f"long-{seed}.png"
        if not path.exists():
            command = [options.latentd, "generate", PROMPT, "-o", str(path), "--seed", str(seed)]
            command += ["--model", options.model] if options.model else []
            subprocess.run([*command, "--safety-checker", "none"], check=True, capture_output=True)
        seen = judge(Image.open(path))
        there = [name for name, test in WANTED.items() if test(seen)]
        for name in there:
            shown[name] += 1
        all_shown += len(there) == len(WANTED)
        print(f"seed {seed} lacks: {', '.join(name for name in WANTED if name not in there) or 'nothing'}")
    print(json.dumps(shown | {"all": all_shown, "seeds": options.seeds}))


if __name__ == "__main__":
    main()
