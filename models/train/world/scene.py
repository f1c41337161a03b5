"""The contents of a scene, and random scenes that make sense."""

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
    "banner": ("red", "blue", "yellow", "white", "green"),
}
# One of these stands on each side of the image at most.
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
    """Everything that a caption may name. `seed` determines the rest."""

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
    """Weather and things in the sky."""
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
        if made.count > 1:  # A group is spread over the image.
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


def sample_rich(rng: random.Random) -> Scene:
    """A random scene crowded or almost empty, as for long and for short prompts."""
    scene = sample(rng)
    kind = rng.choices(("garden", "full", "bare"), (4, 4, 3))[0]
    {"garden": fill_garden, "full": fill, "bare": bare}[kind](scene, rng, lambda p: rng.random() < p)
    return scene


def fill_garden(scene: Scene, rng: random.Random, chance) -> None:
    """A Japanese garden, mostly in the evening, with most of its typical things."""
    scene.ground, scene.time = "garden", rng.choice(("twilight", "twilight", "night", "sunset", "sunrise"))
    scene.backdrop = rng.choices(BACKDROPS, (6, 2, 2, 1))[0]
    scene.weather, scene.sun = "none", not scene.dark and chance(0.6)
    scene.moon = rng.choices(MOONS, (1, 4, 2))[0] if scene.dark else "none"
    scene.stars, scene.aurora = scene.dark and chance(0.7), scene.dark and chance(0.5)
    scene.clouds = chance(0.15)
    scene.path, scene.fence, scene.bridge, scene.mushrooms = chance(0.5), False, chance(0.75), chance(0.65)
    scene.things = {}
    sides = list(SIDES)
    rng.shuffle(sides)
    for name, share in (("cherry", 0.8), ("torii", 0.45), ("house", 0.15)):
        if chance(share):
            scene.things[name] = thing(name, rng)
            scene.things[name].count, scene.things[name].side = 1, sides.pop()
    if chance(0.75):
        scene.things["lantern"] = thing("lantern", rng)
        scene.things["lantern"].count = rng.choice((3, MANY, MANY, MANY))
    if chance(0.2):
        scene.things["flower"] = Thing(count=MANY, colour=rng.choice(COLOURS["flower"]))


def fill(scene: Scene, rng: random.Random, chance) -> None:
    """More of everything that can be there, and plain flags, on a pole or on a tower."""
    land = scene.ground != "sea"
    scene.path = land and chance(0.45)
    scene.fence = scene.ground in ("meadow", "snow field", "lake") and chance(0.45)
    scene.bridge = scene.ground in ("lake", "garden") and "boat" not in scene.things and chance(0.6)
    scene.mushrooms = land and chance(0.45)
    if chance(0.5):
        scene.things["lantern"] = thing("lantern", rng)
    if scene.ground in ("meadow", "lake", "garden") and chance(0.5):
        scene.things["flower"] = Thing(count=MANY, colour=rng.choice(COLOURS["flower"]))
    if chance(0.4) and all(one.count == 1 for name, one in scene.things.items() if name in STANDING):
        tower = scene.things.get("tower")
        free = [side for side in SIDES if all(one.side != side for one in scene.things.values())]
        if tower and chance(0.6):
            scene.things["banner"] = Thing(colour=rng.choice(COLOURS["banner"]), side=tower.side)
        elif free:
            scene.things["banner"] = Thing(colour=rng.choice(COLOURS["banner"]), side=rng.choice(free))


def bare(scene: Scene, rng: random.Random, chance) -> None:
    """At most one kind of thing, and an empty sky most of the time."""
    scene.path = scene.fence = scene.bridge = scene.mushrooms = False
    scene.weather = "none"
    for name in ("sun", "stars", "clouds", "aurora"):
        setattr(scene, name, getattr(scene, name) and chance(0.3))
    scene.moon = scene.moon if chance(0.3) else "none"
    scene.backdrop = scene.backdrop if chance(0.4) else "none"
    kept = rng.choice(list(scene.things)) if scene.things and chance(0.8) else None
    scene.things = {name: one for name, one in scene.things.items() if name == kept}
    extra = rng.choice(("none", "none", "none", "path", "fence", "bridge", "mushrooms", "banner"))
    if extra == "banner" and not scene.things:
        scene.things["banner"] = Thing(colour=rng.choice(COLOURS["banner"]), side=rng.choice(SIDES))
    elif extra in ("path", "mushrooms") and scene.ground != "sea":
        setattr(scene, extra, True)
    elif extra == "fence" and scene.ground in ("meadow", "snow field", "lake"):
        scene.fence = True
    elif extra == "bridge" and scene.ground in ("lake", "garden") and "boat" not in scene.things:
        scene.bridge = True
