"""A scene as an image."""

from __future__ import annotations

import random

import numpy as np
import skia

from . import buildings, land, plants, sky
from .faults import Fault
from .palette import Light
from .pen import Pen
from .scene import Scene, Thing

ACROSS = {"left": 0.2, "centre": 0.5, "right": 0.8}
SCALE = {"small": 0.68, "plain": 1.0, "big": 1.42}
# How far down things stand, as a share of the height.
STAND = {"meadow": 0.76, "lake": 0.655, "garden": 0.675, "sea": 0.665, "desert": 0.74, "snow field": 0.76}
DRAW = {**buildings.DRAW, "tree": plants.tree, "cherry": plants.cherry}


def render(scene: Scene, width: int, height: int, fault: Fault | None = None) -> np.ndarray:
    """`[height, width, 3]` uint8; with a fault, one object is not whole."""
    surface = skia.Surface(width, height)
    with surface as canvas:
        pen = Pen(canvas, width, height, Light(scene.time), random.Random(scene.seed))
        pen.fault = fault
        sky.draw(pen, scene)
        land.draw(pen, scene)
        sky.veil(pen, scene)
        things(pen, scene)
        front(pen, scene)
    pixels = surface.makeImageSnapshot().toarray(colorType=skia.ColorType.kRGBA_8888_ColorType)
    image = np.ascontiguousarray(pixels[:, :, :3])
    return fault.finish(image) if fault else image


def whole_or_not(pen: Pen, name: str, draw) -> None:
    """Calls `draw` for an object; a fault of the pen for this kind of object changes the drawing."""
    if pen.fault and pen.fault.name == name:
        pen.fault.draw(pen, draw)
    else:
        draw()


def things(pen: Pen, scene: Scene) -> None:
    """Draws the objects that stand on the land, the far ones first."""
    for name, thing in scene.things.items():
        if name in DRAW and thing.count > 1:
            group(pen, scene, name, thing)
    for name, thing in scene.things.items():
        if name in DRAW and thing.count == 1:
            x = pen.width * (ACROSS[thing.side] + pen.rng.uniform(-0.03, 0.03))
            put(pen, scene, name, thing, x, SCALE[thing.size])


def group(pen: Pen, scene: Scene, name: str, thing: Thing) -> None:
    """Two or three side by side."""
    for x in spread(pen, thing.count):
        put(pen, scene, name, thing, x, 0.8)


def spread(pen: Pen, count: int) -> list[float]:
    """Places across the image, left to right."""
    middle = {2: (0.27, 0.73), 3: (0.18, 0.5, 0.82)}[count]
    return [pen.width * (x + pen.rng.uniform(-0.03, 0.03)) for x in middle]


def put(pen: Pen, scene: Scene, name: str, thing: Thing, x: float, scale: float) -> None:
    foot = pen.height * STAND[scene.ground] + pen.rng.uniform(-6, 6) * pen.u
    buildings.mound(pen, scene, x, foot, buildings.HALF[name] * scale * pen.u)
    whole_or_not(pen, name, lambda: DRAW[name](pen, scene, x, foot, pen.u * scale, thing))


def front(pen: Pen, scene: Scene) -> None:
    """Draws the foreground."""
    if scene.bridge:
        whole_or_not(pen, "bridge", lambda: buildings.bridge(pen, scene))
    if boat := scene.things.get("boat"):
        boats(pen, scene, boat)
    if scene.fence:
        land.fence(pen, scene)
    if flower := scene.things.get("flower"):
        plants.flowers(pen, scene, flower)
    if scene.mushrooms:
        plants.mushrooms(pen, scene)
    if lantern := scene.things.get("lantern"):
        lanterns(pen, scene, lantern)
    if scene.weather != "none":
        sky.falling(pen, scene)


def boats(pen: Pen, scene: Scene, boat: Thing) -> None:
    y = {"sea": 0.79, "lake": 0.79, "garden": 0.82}[scene.ground] * pen.height
    if boat.count == 1:
        across = {"left": 0.25, "centre": 0.5, "right": 0.75}[boat.side]
        places = [pen.width * (across + pen.rng.uniform(-0.03, 0.03))]
    else:
        places = spread(pen, boat.count)
    for x in places:
        y_here = y + pen.rng.uniform(-14, 14) * pen.u
        whole_or_not(pen, "boat", lambda: buildings.boat(pen, scene, x, y_here, 0.92 * pen.u, boat))


def lanterns(pen: Pen, scene: Scene, lantern: Thing) -> None:
    """Few hang apart, many drift in two rows."""
    if lantern.count <= 3:
        xs = {1: (0.5,), 2: (0.36, 0.64), 3: (0.26, 0.5, 0.74)}[lantern.count]
        places = [(x, 0.36) for x in xs]
    else:
        places = [(x, y) for x, y in zip((0.10, 0.26, 0.42, 0.58, 0.74, 0.90), (0.42, 0.22, 0.44, 0.24, 0.42, 0.22))]
    scale = 1.0 if lantern.count <= 3 else 0.72
    for x, y in places:
        dx, dy = pen.rng.uniform(-0.03, 0.03), pen.rng.uniform(-0.02, 0.02)
        at = (pen.width * (x + dx), pen.height * (y + dy))
        whole_or_not(pen, "lantern", lambda: buildings.lantern(pen, scene, *at, scale * pen.u, lantern))
