"""Make new random models and compare latentd with diffusers on each.

    python tests/parity/try_fresh.py --latentd target/release/latentd --count 10 --seed 1

The golden cases are fixed; this tests shapes that they lack. Models are in a temporary
directory; --keep DIR keeps those that differ. Exit code 1 when any differs.
"""

import argparse
import dataclasses
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import compare
import make_model as mm
import words

WIDTH, HEIGHT, STEPS, SEED = 160, 96, 6, 7


def draw_options(draw: random.Random, seed: int) -> mm.Options:
    """One architecture: a value for every option of the config files."""
    blocks = draw.choice((2, 3, 4, 4))
    groups = draw.choice((2, 4))
    depth = draw.randint(1, 4)
    heads = draw.choice([h for h in (1, 2, 3, 5) if h != depth])
    clip_l = draw_clip(draw)
    clip_g = draw_clip(draw)
    patches = max(WIDTH, HEIGHT) // 2**blocks
    return mm.Options(
        seed=seed,
        heads=heads,
        head_dim=draw.choice((8, 16, 32, 64)) if draw.random() < 0.8 else draw.choice((4, 12, 20, 40)),
        depth=depth,
        qk_norm=draw.random() < 0.8,
        dual=tuple(range(draw.randint(1, depth))) if draw.random() < 0.4 else (),
        pos_embed_max_size=patches + draw.randint(0, 9),
        sample_size=draw.choice((16, 32, 64, 128)),
        joint_dim=clip_l.hidden + clip_g.hidden + 4 * draw.randint(0, 8),
        clip_l=clip_l,
        clip_g=clip_g,
        t5=None if draw.random() < 0.25 else mm.T5(draw.randint(1, 5), draw.choice((8, 16, 64)), draw.randint(1, 4), draw.choice((40, 96))),
        clip_merges=draw.randint(0, 300),
        t5_vocab=draw.randint(230, 420),
        t5_extra_ids=draw.choice((0, 10, 100)),
        full_t5_rules=draw.random() < 0.5,
        clip_json=draw.random() < 0.3,
        legacy_eos=draw.random() < 0.5,
        vae_channels=tuple(groups * draw.randint(2, 5) for _ in range(blocks)),
        vae_layers=draw.randint(1, 3),
        norm_groups=groups,
        latent_channels=draw.choice((4, 8, 16, 16)),
        scaling_factor=draw.choice((1.5305, round(draw.uniform(0.3, 2), 4))),
        shift_factor=draw.choice((0.0609, round(draw.uniform(-0.3, 0.3), 4))),
        shift=draw.choice((3.0, 3.0, 1.0, round(draw.uniform(1, 6), 2))),
        dtype=draw.choice(("f32", "f16", "mixed")),
        shard=draw.choice((None, "100KB")),
        shard_t5=draw.choice((None, "50KB")),
    )  # fmt: skip


def draw_clip(draw: random.Random) -> mm.Clip:
    heads = draw.randint(1, 4)
    hidden = heads * draw.choice((8, 12, 16))
    return mm.Clip(hidden, heads, draw.randint(2, 4), draw.choice((hidden * 4, 50)), draw.choice((hidden, 28)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latentd", type=pathlib.Path, required=True)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=pathlib.Path)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    texts = [text for text in words.STRINGS if "\x00" not in text and not text.startswith("-")]
    failures = 0
    for index in range(args.count):
        options = draw_options(draw, seed=draw.randrange(2**31))
        prompt = draw.choice(texts + words.corpus()[-200:])
        negative = draw.choice(("", words.NEGATIVE, draw.choice(texts)))
        guidance = draw.choice((1.0, 1.5, 4.5, 7.0))
        with tempfile.TemporaryDirectory() as scratch:
            model, ours = pathlib.Path(scratch, "model"), pathlib.Path(scratch, "a.png")
            mm.write(model, options)
            command = [args.latentd, "generate", prompt, "--model", model, "--seed", SEED, "--steps", STEPS, "--width", WIDTH,
                       "--height", HEIGHT, "--guidance", guidance, "--dtype", "f32", "--device", "cpu", "--safety-checker", "none",
                       "-o", ours]  # fmt: skip
            if negative:
                command.append(f"--negative-prompt={negative}")
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
            if done.returncode:
                good, line = False, f"latentd exited with {done.returncode}: {done.stderr.strip()}"
            else:
                theirs = compare.reference(model, prompt, negative, SEED, STEPS, WIDTH, HEIGHT, guidance)
                mean, most = compare.difference(ours, theirs)
                good, line = compare.close(mean, most), f"mean {mean:.4f}/255, max {most}, spread {theirs.std():.0f}"
            print(f"{index}: {'ok  ' if good else 'FAIL'} {line}", flush=True)
            if not good:
                failures += 1
                request = dict(prompt=prompt, negative=negative, guidance=guidance)
                print(json.dumps(dataclasses.asdict(options) | request), flush=True)
                if args.keep:
                    shutil.copytree(scratch, args.keep / f"{args.seed}-{index}", dirs_exist_ok=True)
    print(f"{args.count - failures} of {args.count} equal (seed {args.seed})")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
