"""A scene as class numbers: the targets of the text encoders and of the judge."""

from __future__ import annotations

from world.scene import BACKDROPS, COLOURS, GROUNDS, MOONS, SIDES, SIZES, STANDING, TIMES, WEATHERS, Scene

COUNTS = (0, 1, 2, 3, 6)
FLAGS = ("sun", "stars", "clouds", "aurora", "path", "fence", "bridge", "mushrooms")
# Objects that `whole.py` classifies as whole or broken.
OBJECTS = ("house", "tower", "torii", "tree", "cherry", "boat", "bridge", "lantern", "flag", "banner")
SINGLE = ("tower", "torii", "cherry", "flag")


def classes() -> dict[str, tuple]:
    """Every label and its values; the first is "not present" if the thing may be absent."""
    found = {"time": TIMES, "moon": MOONS, "weather": WEATHERS, "backdrop": BACKDROPS, "ground": GROUNDS}
    found |= {name: (False, True) for name in FLAGS}
    for name in (*STANDING, "boat", "lantern"):
        found[f"{name} count"] = (0, 1) if name in SINGLE else COUNTS
    found["flower"] = ("", *COLOURS["flower"])
    for name in ("house", "boat", "lantern"):
        found[f"{name} colour"] = ("", *COLOURS[name])
    for name in (*STANDING, "boat"):
        found[f"{name} side"] = ("", *SIDES)
    for name in ("house", "tree"):
        found[f"{name} size"] = ("", *SIZES)
    found |= {"banner count": (0, 1), "banner colour": ("", *COLOURS["banner"]), "banner side": ("", *SIDES)}
    return found


CLASSES = classes()


def labels(scene: Scene) -> dict[str, int]:
    """The class number of every label."""
    found: dict[str, object] = {"time": scene.time, "moon": scene.moon, "weather": scene.weather}
    found |= {"backdrop": scene.backdrop, "ground": scene.ground}
    found |= {name: getattr(scene, name) for name in FLAGS}
    for name in (*STANDING, "boat", "lantern", "banner"):
        thing = scene.things.get(name)
        found[f"{name} count"] = thing.count if thing else 0
        if f"{name} side" in CLASSES:
            found[f"{name} side"] = thing.side if thing else ""
        if f"{name} colour" in CLASSES:
            found[f"{name} colour"] = thing.colour if thing else ""
        if f"{name} size" in CLASSES:
            found[f"{name} size"] = thing.size if thing else ""
    flower = scene.things.get("flower")
    found["flower"] = flower.colour if flower else ""
    return {name: values.index(found[name]) for name, values in CLASSES.items()}
