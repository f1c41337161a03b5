"""The land: backdrop, ground, water, path and fence."""

from __future__ import annotations

import math

import skia

from .palette import GROUND, SKIES, WATER, mix, paint_of, rgb
from .pen import Pen, smooth
from .scene import Scene


def draw(pen: Pen, scene: Scene) -> None:
    {"none": lambda *_: None, "mountains": mountains, "hills": hills, "forest": forest}[scene.backdrop](pen, scene)
    ground(pen, scene)
    {"lake": lake, "sea": sea, "garden": pond}.get(scene.ground, lambda *_: None)(pen, scene)
    if scene.ground == "desert":
        dunes(pen)
    if scene.path:
        path(pen, scene)


def mountains(pen: Pen, scene: Scene) -> None:
    for far, height, code in ((0.55, 0.60, "#6b7fa6"), (0.22, 0.42, "#4b628c")):
        colour = pen.light.far(code, far)
        peaks = [pen.rng.uniform(0.04, 0.2) + i * 0.34 for i in range(-1, 4)]
        for peak in peaks:
            x, top = peak * pen.width, pen.horizon - pen.horizon * height * pen.rng.uniform(0.75, 1.0)
            half = pen.width * 0.15 + 120 * pen.u
            foot = pen.horizon + 10 * pen.u
            pen.shade([(x, top), (x + half, foot), (x - half, foot)], colour, mix(colour, pen.light.haze, 0.35))
            cap, drop = 0.30, foot - top
            pen.polygon(
                [
                    (x, top),
                    (x + half * cap, top + drop * cap),
                    (x + half * 0.12, top + drop * cap * 0.8),
                    (x, top + drop * cap * 1.15),
                    (x - half * 0.12, top + drop * cap * 0.8),
                    (x - half * cap, top + drop * cap),
                ],
                pen.light.far("#ffffff", far * 0.6),
            )


def hills(pen: Pen, scene: Scene) -> None:
    snowy, sandy = scene.ground == "snow field", scene.ground == "desert"
    codes = ("#c9dbef", "#dbe8f6") if snowy else ("#d9a863", "#e3b56c") if sandy else ("#5f9e6a", "#6fb35b")
    for code, far, height in zip(codes, (0.45, 0.15), (0.30, 0.17)):
        colour = pen.light.far(code, far)
        phase = pen.rng.uniform(0, math.tau)
        points = [
            (i / 10 * pen.width, pen.horizon * (1 - height * (0.6 + 0.4 * math.sin(phase + i * 0.95))))
            for i in range(11)
        ]
        pen.ridge(pen.horizon + 20 * pen.u, points, colour, mix(colour, pen.light.haze, 0.25))


def forest(pen: Pen, scene: Scene) -> None:
    for far, height, step in ((0.45, 190, 0.055), (0.12, 150, 0.07)):
        colour = pen.light.far("#1f6b4a", far)
        x = -0.02
        while x < 1.04:
            tall = height * pen.u * pen.rng.uniform(0.8, 1.15)
            fir(pen, x * pen.width, pen.horizon + 14 * pen.u, tall, colour, scene.ground == "snow field")
            x += step * pen.rng.uniform(0.75, 1.25) * math.sqrt(pen.height / pen.width)


def fir(pen: Pen, x: float, foot: float, tall: float, colour, snowy: bool) -> None:
    """A conifer of three tiers."""
    for tier in range(3):
        top, low = foot - tall * (1 - tier * 0.24), foot - tall * (0.52 - tier * 0.24)
        half = tall * (0.15 + tier * 0.055)
        light = mix(colour, (1, 1, 1), 0.55) if snowy else mix(colour, (1, 1, 1), 0.07 * (2 - tier))
        pen.polygon([(x, top), (x + half, low), (x - half, low)], light)


def ground(pen: Pen, scene: Scene) -> None:
    top, bottom = (pen.light.on(code) for code in GROUND[scene.ground])
    rim = pen.rng.uniform(-8, 8) * pen.u
    points = [(0, pen.horizon + rim), (pen.width / 2, pen.horizon - rim), (pen.width, pen.horizon + rim)]
    pen.ridge(pen.height, points, mix(top, pen.light.haze, 0.2), bottom)
    if scene.ground == "snow field":
        for y in (0.68, 0.84):
            line = [(i / 4 * pen.width, pen.height * (y + pen.rng.uniform(-0.02, 0.02))) for i in range(5)]
            pen.ridge(pen.height, line, pen.light.on("#ffffff", 0.8), pen.light.on("#d5e4f4"))
    if scene.ground == "meadow":
        for y, code in ((0.70, "#6fbf47"), (0.86, "#58a83c")):
            line = [(i / 4 * pen.width, pen.height * (y + pen.rng.uniform(-0.025, 0.025))) for i in range(5)]
            pen.ridge(pen.height, line, pen.light.on(code), pen.light.on(mix(rgb(code), (0, 0.2, 0), 0.3)))


def dunes(pen: Pen) -> None:
    for y, code, deep in ((0.66, "#f2cb86", "#dca35a"), (0.82, "#e8b566", "#c78a41")):
        tilt = pen.rng.choice((-1, 1)) * 0.035
        line = [(i / 4 * pen.width, pen.height * (y + tilt * math.cos(i * 1.5))) for i in range(5)]
        pen.ridge(pen.height, line, pen.light.on(code), pen.light.on(deep))
    for _ in range(2):
        x, y = pen.width * pen.rng.uniform(0.08, 0.92), pen.height * pen.rng.uniform(0.86, 0.93)
        cactus(pen, x, y)


def cactus(pen: Pen, x: float, foot: float) -> None:
    green, u = pen.light.on("#3f8f52"), pen.u
    pen.line([(x, foot), (x, foot - 84 * u)], 22 * u, green)
    pen.line([(x, foot - 34 * u), (x + 30 * u, foot - 40 * u), (x + 32 * u, foot - 66 * u)], 14 * u, green)
    pen.line([(x, foot - 26 * u), (x - 28 * u, foot - 32 * u), (x - 30 * u, foot - 54 * u)], 14 * u, green)


def water_paint(pen: Pen, scene: Scene, top: float, bottom: float) -> skia.Paint:
    """Water mirrors the sky: its horizon far away, deep blue near."""
    sky = [rgb(code) for code in SKIES[scene.time]]
    near = mix(pen.light.on(WATER[1]), sky[0], 0.25)
    far = mix(pen.light.on(WATER[0]), sky[2], 0.45)
    return pen.vertical(top, bottom, far, near)


def ripples(pen: Pen, left: float, right: float, top: float, bottom: float) -> None:
    bright = mix(pen.light.on("#ffffff", 0.7), pen.light.haze, 0.2)
    for row in range(5):
        y = top + (row + 0.6) / 5.4 * (bottom - top)
        x = left + pen.rng.uniform(0.1, 0.8) * (right - left)
        length = pen.u * (34 + 14 * row)
        pen.line([(x, y), (x + length, y)], 5 * pen.u, bright, 0.55)


def sea(pen: Pen, scene: Scene) -> None:
    top, beach = pen.horizon, pen.height * 0.88
    shore = [(i / 6 * pen.width, beach + 12 * pen.u * math.sin(i * 1.7)) for i in range(7)]
    path = smooth(shore)
    path.lineTo(pen.width, top)
    path.lineTo(0, top)
    path.close()
    pen.canvas.drawPath(path, water_paint(pen, scene, top, beach))
    pen.line(shore, 9 * pen.u, pen.light.on("#ffffff", 0.7), 0.85)
    ripples(pen, 0, pen.width, top, beach - 30 * pen.u)


def lake(pen: Pen, scene: Scene) -> None:
    x, y = pen.width / 2, pen.height * 0.745
    rx, ry = pen.width * 0.56, pen.height * 0.115
    pen.ellipse(x, y + 8 * pen.u, rx * 1.02, ry * 1.06, pen.light.on("#d9c48f"))
    oval = skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry)
    pen.canvas.drawOval(oval, water_paint(pen, scene, y - ry, y + ry))
    ripples(pen, pen.width * 0.1, pen.width * 0.8, y - ry * 0.7, y + ry * 0.75)


def pond(pen: Pen, scene: Scene) -> None:
    """A koi pond with stones, lily pads and fish."""
    u, x, y = pen.u, pen.width * 0.5, pen.height * 0.79
    rx, ry = pen.width * 0.36, pen.height * 0.115
    for i in range(22):
        angle = i / 22 * math.tau
        size = pen.rng.uniform(19, 28) * u
        grey = pen.light.on(mix(rgb("#8d949c"), rgb("#b9bec4"), pen.rng.random()))
        pen.ellipse(x + rx * math.cos(angle), y + ry * math.sin(angle), size * 1.25, size * 0.8, grey)
    oval = skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry)
    pen.canvas.drawOval(oval, water_paint(pen, scene, y - ry, y + ry))
    for side in (-0.62, 0.66):
        pad = pen.light.on("#3f9b5a")
        pen.ellipse(x + side * rx, y + pen.rng.uniform(-0.2, 0.3) * ry, 34 * u, 15 * u, pad)
        pen.ellipse(x + side * rx * 0.8, y + pen.rng.uniform(0.35, 0.5) * ry, 26 * u, 12 * u, pad)
    for side, code in ((-0.3, "#ff7a2f"), (0.05, "#fff3e6"), (0.36, "#ff7a2f")):
        fish(pen, x + side * rx, y + pen.rng.uniform(0.2, 0.6) * ry, pen.light.on(code, 0.5))


def fish(pen: Pen, x: float, y: float, colour) -> None:
    u, way = pen.u, pen.rng.choice((-1, 1))
    pen.polygon([(x - way * 22 * u, y), (x - way * 44 * u, y - 12 * u), (x - way * 44 * u, y + 12 * u)], colour)
    pen.ellipse(x, y, 28 * u, 12 * u, colour)


def path(pen: Pen, scene: Scene) -> None:
    """A path from the foreground to the horizon, or to the water."""
    far = {"lake": 0.875, "garden": 0.905}.get(scene.ground, 0.58) * pen.height
    if scene.ground in ("lake", "garden"):
        line = [(-0.02, 0.95), (0.3, 0.915), (0.6, 0.955), (1.02, 0.925)]
        pen.line([(x * pen.width, y * pen.height) for x, y in line], 42 * pen.u, pen.light.on("#e2c794"))
        return
    bend = pen.rng.choice((-1, 1)) * 0.09
    left, right = [], []
    for i in range(7):
        t = i / 6
        y = far + (pen.height * 1.01 - far) * t
        x = pen.width * (0.5 + bend * math.sin(t * 5.2))
        half = (10 + 105 * t * t) * pen.u
        left.append((x - half, y))
        right.append((x + half, y))
    road = smooth(left)
    for point in reversed(right):
        road.lineTo(*point)
    road.close()
    pen.canvas.drawPath(road, paint_of(pen.light.on("#c9a06a" if scene.ground == "desert" else "#e2c794")))


def fence(pen: Pen, scene: Scene) -> None:
    wood, y, u = pen.light.on("#fdf6e8", 0.8), pen.height * 0.90, pen.u
    for dy in (18, 42):
        pen.rect(0, y + dy * u, pen.width, 9 * u, mix(wood, (0, 0, 0), 0.12))
    posts = max(6, round(pen.width / (62 * u)))
    for i in range(posts):
        x = (i + 0.5) / posts * pen.width - 11 * u
        pen.shade(
            [(x, y), (x + 11 * u, y - 14 * u), (x + 22 * u, y), (x + 22 * u, y + 66 * u), (x, y + 66 * u)],
            wood,
            mix(wood, (0, 0, 0), 0.12),
        )
