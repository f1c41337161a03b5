"""What can be in a picture, and random scenes that make sense."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

TIMES = ("sunrise", "noon", "sunset", "twilight", "night")
BACKDROPS = ("none", "mountains", "hills", "forest")
GROUNDS = ("meadow", "sea", "lake", "desert", "snow field", "garden")
WEATHERS = ("none", "rain", "snow")
MOONS = ("none", "crescent", "full")
SIDES = ("left", "centre", "right")
SIZES = ("small", "plain", "big")
MANY = 6
COLOURS = {
    "house": ("red", "blue", "yellow", "white", "green"),
    "boat": ("red", "white", "yellow", "blue"),
    "lantern": ("orange", "red", "pink", "green"),
    "flower": ("red", "yellow", "purple", "white", "pink"),
}
# One of these stands on each side of the picture at most.
STANDING = ("house", "tower", "torii", "tree", "cherry", "flag")
COUNTED = {"house": (1, 1, 1, 1, 2, 3), "tree": (1, 1, 2, 3), "boat": (1, 2, 3), "lantern": (1, 2, 3, MANY, MANY)}
WET = ("sea", "lake", "garden")


@dataclass
class Thing:
    """One kind of thing: how many, where, how big, which colour ("" where it does not apply)."""

    count: int = 1
    side: str = ""
    size: str = "plain"
    colour: str = ""


@dataclass
class Scene:
    """Everything that a caption may name. `seed` fixes what it does not."""

    time: str = "noon"
    sun: bool = False
    moon: str = "none"
    stars: bool = False
    clouds: bool = False
    aurora: bool = False
    weather: str = "none"
    backdrop: str = "none"
    ground: str = "meadow"
    path: bool = False
    fence: bool = False
    bridge: bool = False
    mushrooms: bool = False
    things: dict[str, Thing] = field(default_factory=dict)
    seed: int = 0

    @property
    def dark(self) -> bool:
        return self.time in ("twilight", "night")


def sample(rng: random.Random) -> Scene:
    """A random scene."""
    scene = Scene(time=rng.choice(TIMES), seed=rng.getrandbits(31))
    chance = lambda p: rng.random() < p
    sky(scene, rng, chance)
    scene.ground = rng.choice(GROUNDS)
    scene.backdrop = rng.choices(BACKDROPS, (3, 3, 2, 2))[0]
    if scene.ground == "sea" and scene.backdrop == "forest":
        scene.backdrop = "none"
    land = scene.ground not in ("sea",)
    scene.path = land and chance(0.3)
    scene.fence = scene.ground in ("meadow", "snow field", "lake") and chance(0.22)
    scene.bridge = scene.ground in ("lake", "garden") and chance(0.4)
    scene.mushrooms = land and chance(0.2)
    stand(scene, rng, chance)
    if scene.ground in WET and chance(0.5 if scene.ground != "garden" else 0.1) and not scene.bridge:
        scene.things["boat"] = thing("boat", rng)
    if chance(0.28):
        scene.things["lantern"] = thing("lantern", rng)
    if scene.ground in ("meadow", "lake", "garden") and chance(0.35):
        scene.things["flower"] = Thing(count=MANY, colour=rng.choice(COLOURS["flower"]))
    return scene


def sky(scene: Scene, rng: random.Random, chance) -> None:
    """Weather and what hangs above."""
    scene.weather = rng.choices(WEATHERS, (8, 1, 1))[0]
    if scene.dark:
        scene.moon = rng.choices(MOONS, (2, 2, 2))[0]
        scene.stars = chance(0.5)
        scene.aurora = chance(0.25)
        scene.clouds = chance(0.2)
    else:
        scene.sun = chance(0.75)
        scene.clouds = chance(0.45)


def stand(scene: Scene, rng: random.Random, chance) -> None:
    """Up to three different standing things, each on a side of its own."""
    sides = list(SIDES)
    rng.shuffle(sides)
    weights = {"house": 5, "tower": 2, "torii": 2, "tree": 3, "cherry": 3, "flag": 0.7}
    if scene.ground == "garden":
        weights.update(torii=4, cherry=6, house=2)
    for _ in range(rng.choices((0, 1, 2, 3), (1, 5, 4, 1))[0]):
        name = rng.choices(list(weights), list(weights.values()))[0]
        del weights[name]
        if not sides:
            return
        made = thing(name, rng)
        if made.count > 1 and len(sides) < 3:
            made.count = 1
        if made.count > 1:  # A group is spread over the picture.
            made.side, sides = "", []
        else:
            made.side = sides.pop()
        scene.things[name] = made


def thing(name: str, rng: random.Random) -> Thing:
    """A thing with random attributes; `stand` gives those that stand a side."""
    made = Thing(count=rng.choice(COUNTED.get(name, (1,))))
    if name in COLOURS:
        made.colour = rng.choice(COLOURS[name])
    if name in ("house", "tree") and made.count == 1:
        made.size = rng.choices(SIZES, (1, 2, 1))[0]
    if name == "boat" and made.count == 1:
        made.side = rng.choice(SIDES)
    return made
