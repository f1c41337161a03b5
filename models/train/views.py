"""Small views of drawn scenes, the inputs of the two judges and the safety checker."""

from __future__ import annotations

import pathlib
import random

import numpy as np
import torch
from common import workers
from labels import OBJECTS
from PIL import Image
from sizes import HELD_OUT, RICH, scene_of, size_of
from world import faults, render

SIDE = 224
# The second judge uses larger views.
OBJECT_SIDE = 320
ABSENT, BROKEN, WHOLE = 0, 1, 2
# Every fourth view has a pirate flag, so that the safety checker is trained on enough of them; another one is a rich scene.
FLAG_EVERY = 4
PART = 1000


def indices(first: int, count: int) -> list[int]:
    """Scene numbers from `first` on; every fourth has a pirate flag, every fourth is rich."""
    plain, rich = iter(range(first, first + (1 << 28))), iter(range(first + RICH, first + RICH + (1 << 28)))
    found, flagged = [], iter(range(first + (1 << 28), first + (1 << 29)))
    while len(found) < count:
        if len(found) % FLAG_EVERY == 0:
            found.append(next(index for index in flagged if "flag" in scene_of(index).things))
        else:
            found.append(next(rich if len(found) % FLAG_EVERY == 2 else plain))
    return found


def view_of(index: int) -> np.ndarray:
    """The scene drawn at half its size, squeezed to `[224, 224, 3]` uint8 as the safety checker's processor does."""
    width, height = size_of(index)
    return squeeze(Image.fromarray(render.render(scene_of(index), width // 2, height // 2)), SIDE)


def squeeze(image: Image.Image, side: int) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def objects_of(scene) -> list[str]:
    return [name for name in OBJECTS if name in scene.things or (name == "bridge" and scene.bridge)]


def object_view(item: tuple[int, bool]) -> np.ndarray:
    """`[320 * 320 * 3 + 10]` uint8 of a scene: a view, and for each object whether it is absent, broken or whole.

    One object is broken if the item says so.
    """
    index, break_one = item
    scene, (width, height), rng = scene_of(index), size_of(index), random.Random(f"fault {index}")
    image, names = render.render(scene, width // 2, height // 2), objects_of(scene)
    states = np.array([WHOLE if name in names else ABSENT for name in OBJECTS], np.uint8)
    if names and break_one:
        name = rng.choice(names)
        for _ in range(8):
            fault = faults.Fault(name, rng)
            broken = render.render(scene, width // 2, height // 2, fault)
            if fault.visible(broken, image):
                image, states[OBJECTS.index(name)] = broken, BROKEN
                break
    return np.concatenate([squeeze(Image.fromarray(image), OBJECT_SIDE).reshape(-1), states])


def in_parts(work: pathlib.Path, name: str, found: list, make) -> torch.Tensor:
    """`make` of every scene number or item, stored in files of 1,000, so that drawing resumes after an interruption."""
    parts = []
    with workers() as pool:
        for start in range(0, len(found), PART):
            path = work / f"{name}-{start // PART:03}.npy"
            if not path.exists():
                made = np.stack(pool.map(make, found[start : start + PART], chunksize=20))
                with (scratch := path.with_suffix(".new")).open("wb") as file:
                    np.save(file, made)
                scratch.rename(path)
            parts.append(np.load(path, mmap_mode="r")[: len(found) - start])
    return torch.from_numpy(np.concatenate(parts))


def first(held_out: bool) -> int:
    return HELD_OUT if held_out else HELD_OUT // 2


def views(work: pathlib.Path, count: int, held_out: bool) -> tuple[list[int], torch.Tensor]:
    """Scene numbers and views `[count, 224, 224, 3]` uint8."""
    found = indices(first(held_out), count)
    return found, in_parts(work, "views-held-out" if held_out else "views", found, view_of)


def object_views(work: pathlib.Path, count: int, held_out: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Views `[count, 320, 320, 3]` uint8 and states `[count, 10]`, in pairs: a scene, and the same with a fault.

    Every fourth scene has a pirate flag, the others are rich.
    """
    numbers = indices(first(held_out), (count + 1) // 2)
    scenes = [n if i % FLAG_EVERY == 0 else first(held_out) + RICH + i for i, n in enumerate(numbers)]
    items = [(index, broken) for index in scenes for broken in (False, True)][:count]
    made = in_parts(work, "objects-held-out" if held_out else "objects", items, object_view)
    pixels = OBJECT_SIDE * OBJECT_SIDE * 3
    return made[:, :pixels].reshape(-1, OBJECT_SIDE, OBJECT_SIDE, 3), made[:, pixels:].long()


def batch(images: torch.Tensor, blemish: bool) -> torch.Tensor:
    """`[B, 3, side, side]` in -1..1; with `blemish`, blurred, tinted and noisy, as a generated image may be."""
    pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    if not blemish:
        return pixels
    if torch.rand(()) < 0.5:
        size = int(torch.randint(2, 5, ()))
        small = torch.nn.functional.avg_pool2d(pixels, size)
        pixels = torch.nn.functional.interpolate(small, pixels.shape[-2:], mode="bilinear")
    gain = 1 + 0.06 * torch.randn(len(pixels), 3, 1, 1)
    pixels = pixels * gain + 0.04 * torch.randn(len(pixels), 3, 1, 1)
    return (pixels + 0.06 * torch.rand(()) * torch.randn_like(pixels)).clamp(-1, 1)
