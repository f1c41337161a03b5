"""The sky: gradient, sun, moon, stars, clouds, aurora, rain and snow."""

from __future__ import annotations

import math

import skia

from .palette import SKIES, colors, mix, paint_of, rgb
from .pen import Pen, smooth
from .scene import Scene

WARM = {"sunrise": "#fff1c9", "noon": "#fff6c2", "sunset": "#ffd34f"}


def draw(pen: Pen, scene: Scene) -> None:
    stops = [rgb(code) for code in SKIES[scene.time]]
    if scene.weather != "none":
        stops = [mix(stop, mix(stop, (0.6, 0.64, 0.7), 0.6), 0.6) for stop in stops]
    pen.canvas.drawPaint(pen.vertical(0, pen.horizon * 1.04, *stops))
    if scene.stars:
        stars(pen)
    if scene.aurora:
        aurora(pen)
    if scene.sun:
        sun(pen, scene.time)
    if scene.moon != "none":
        moon(pen, scene)
    if scene.clouds:
        clouds(pen, scene)


def stars(pen: Pen) -> None:
    for row in range(4):
        for column in range(7):
            x = (column + pen.rng.uniform(0.1, 0.9)) / 7 * pen.width
            y = (row + pen.rng.uniform(0.1, 0.9)) / 4 * pen.horizon * 0.85
            size = pen.u * pen.rng.choice((4.5, 5.5, 7.5))
            pen.glow(x, y, size * 3.2, (1, 1, 0.92), 0.5)
            pen.ellipse(x, y, size, size, (1, 1, 0.94))


def aurora(pen: Pen) -> None:
    for code, height in (("#35e0a8", 0.16), ("#46b6ff", 0.24), ("#a566ff", 0.10)):
        middle = pen.horizon * (height * 1.6 + 0.12)
        phase = pen.rng.uniform(0, math.tau)
        xs = [i / 12 * pen.width * 1.1 - pen.width * 0.05 for i in range(13)]
        top = [(x, middle - pen.horizon * 0.2 + 46 * pen.u * math.sin(phase + 5 * x / pen.width)) for x in xs]
        low = [(x, y + pen.horizon * 0.30) for x, y in top]
        path = smooth(top)
        for point in reversed(low):
            path.lineTo(*point)
        path.close()
        bounds = path.getBounds()
        colour = rgb(code)
        paint = pen.vertical(bounds.top(), bounds.bottom(), (colour, 0.0), (colour, 0.62), (colour, 0.0))
        paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, 14 * pen.u))
        pen.canvas.drawPath(path, paint)


def sun(pen: Pen, time: str) -> None:
    x = pen.width * (pen.rng.choice((0.3, 0.5, 0.7)) + pen.rng.uniform(-0.04, 0.04))
    y, size = {"sunrise": (0.68, 62), "noon": (0.24, 56), "sunset": (0.70, 80)}[time]
    y, size = pen.horizon * y, size * pen.u
    colour = rgb(WARM[time])
    pen.glow(x, y, size * 4.2, colour, 0.75)
    pen.ellipse(x, y, size, size, rgb("#ff8a3d") if time == "sunset" else colour)
    if time == "sunset":
        pen.ellipse(x, y, size * 0.88, size * 0.88, rgb("#ffc14d"))


def moon(pen: Pen, scene: Scene) -> None:
    x = pen.width * (pen.rng.choice((0.3, 0.5, 0.7)) + pen.rng.uniform(-0.04, 0.04))
    y, size = pen.horizon * 0.28, 66 * pen.u
    pale = rgb("#fff6d8")
    pen.glow(x, y, size * 3, pale, 0.38)
    if scene.moon == "full":
        pen.ellipse(x, y, size, size, pale)
        for dx, dy, r in ((-0.3, -0.2, 0.22), (0.32, 0.1, 0.17), (-0.05, 0.42, 0.15)):
            pen.ellipse(x + dx * size, y + dy * size, r * size, r * size, rgb("#e6dab2"))
        return
    disc, bite = skia.Path(), skia.Path()
    disc.addCircle(x, y, size)
    bite.addCircle(x + size * 0.5, y - size * 0.12, size * 0.86)
    pen.canvas.drawPath(skia.Op(disc, bite, skia.PathOp.kDifference_PathOp), paint_of(pale))


def clouds(pen: Pen, scene: Scene) -> None:
    base = {"sunrise": "#fff0ea", "noon": "#ffffff", "sunset": "#f59a86", "twilight": "#8f7bc4", "night": "#3d4f82"}
    colour = rgb(base[scene.time])
    for slot in (0.18, 0.52, 0.84):
        x = pen.width * (slot + pen.rng.uniform(-0.06, 0.06))
        y = pen.horizon * pen.rng.uniform(0.14, 0.52)
        size = pen.u * pen.rng.uniform(46, 62)
        path = skia.Path()
        for dx, dy, r in ((-1.35, 0.28, 0.62), (-0.5, -0.12, 0.9), (0.5, -0.3, 1.0), (1.4, 0.26, 0.66)):
            path = skia.Op(path, circle(x + dx * size, y + dy * size, r * size), skia.PathOp.kUnion_PathOp)
        base_rect = skia.Path()
        base_rect.addRoundRect(skia.Rect.MakeXYWH(x - 2 * size, y + 0.1 * size, 4.05 * size, 0.82 * size), size, size)
        path = skia.Op(path, base_rect, skia.PathOp.kUnion_PathOp)
        pen.fill(path, colour, mix(colour, rgb(SKIES[scene.time][1]), 0.38))


def circle(x: float, y: float, radius: float) -> skia.Path:
    path = skia.Path()
    path.addCircle(x, y, radius)
    return path


def falling(pen: Pen, scene: Scene) -> None:
    """Rain or snow in front of everything."""
    for row in range(6):
        for column in range(8):
            x = (column + pen.rng.uniform(0.2, 0.8)) / 8 * pen.width
            y = (row + pen.rng.uniform(0.2, 0.8)) / 6 * pen.height
            if scene.weather == "rain":
                pen.line([(x, y), (x - 18 * pen.u, y + 60 * pen.u)], 6 * pen.u, rgb("#cfe4ff"), 0.7)
            else:
                size = pen.u * pen.rng.uniform(9, 13)
                pen.ellipse(x, y, size, size, (1, 1, 1), 0.95)


def veil(pen: Pen, scene: Scene) -> None:
    """Thin mist on the horizon, which separates the layers."""
    haze = pen.light.haze
    top, bottom = pen.horizon * 0.9, pen.horizon * 1.1
    paint = skia.Paint(
        Shader=skia.GradientShader.MakeLinear(
            [skia.Point(0, top), skia.Point(0, bottom)], colors((haze, 0.0), (haze, 0.30), (haze, 0.0))
        )
    )
    pen.canvas.drawRect(skia.Rect.MakeLTRB(0, top, pen.width, bottom), paint)
