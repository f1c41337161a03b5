"""The numbering of scenes, and the sizes at which they are drawn. Needs only Python."""

from __future__ import annotations

import random

from world import scene

# fal's six presets and three sizes between them, `(width, height)`, with how often each is trained.
PRESETS = {(1024, 768): 4, (1024, 1024): 2, (768, 1024): 2, (1024, 576): 2, (576, 1024): 2, (512, 512): 1}
SIZES = PRESETS | {(768, 768): 1, (768, 512): 1, (512, 768): 1}
# Scenes from HELD_OUT on are never trained on.
HELD_OUT = 1_000_000_000
# Scenes from RICH on are crowded or almost empty; those from RICH + HELD_OUT on are never trained on.
RICH = 2_000_000_000


def scene_of(index: int) -> scene.Scene:
    """Scene number `index` of the world."""
    return (scene.sample if index < RICH else scene.sample_rich)(random.Random(index))


def mixed(count: int) -> int:
    """The number of training scene `count` of both kinds: every other one is rich."""
    return count // 2 + RICH * (count % 2)


def size_of(index: int) -> tuple[int, int]:
    """The size that scene number `index` is drawn at."""
    return random.Random(f"size {index}").choices(list(SIZES), list(SIZES.values()))[0]
