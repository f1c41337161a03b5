"""Drawing helpers on a skia canvas."""

from __future__ import annotations

import math
import random

import skia

from .palette import Light, Rgb, colors, paint_of


class Pen:
    """A canvas with its size, the unit of length `u` (a thousandth of the mean side), light and randomness."""

    def __init__(self, canvas: skia.Canvas, width: int, height: int, light: Light, rng: random.Random):
        self.canvas, self.width, self.height, self.light, self.rng = canvas, width, height, light, rng
        self.u = math.sqrt(width * height) / 1000
        self.horizon = height * 0.56
        self.fault = None  # `faults.Fault`, for images in which an object is not whole.

    def polygon(self, points: list[tuple[float, float]], colour: Rgb, alpha: float = 1.0) -> None:
        path = skia.Path()
        path.addPoly([skia.Point(*point) for point in points], True)
        self.canvas.drawPath(path, paint_of(colour, alpha))

    def shade(self, points: list[tuple[float, float]], top: Rgb, bottom: Rgb) -> None:
        """A polygon with a vertical gradient."""
        path = skia.Path()
        path.addPoly([skia.Point(*point) for point in points], True)
        self.fill(path, top, bottom)

    def fill(self, path: skia.Path, top: Rgb, bottom: Rgb) -> None:
        """A path with a vertical gradient over its height."""
        bounds = path.getBounds()
        self.canvas.drawPath(path, self.vertical(bounds.top(), bounds.bottom(), top, bottom))

    def vertical(self, top: float, bottom: float, *stops) -> skia.Paint:
        points = [skia.Point(0, top), skia.Point(0, bottom)]
        return skia.Paint(AntiAlias=True, Shader=skia.GradientShader.MakeLinear(points, colors(*stops)))

    def rect(self, x: float, y: float, width: float, height: float, colour: Rgb, radius: float = 0) -> None:
        rect = skia.Rect.MakeXYWH(x, y, width, height)
        self.canvas.drawRoundRect(rect, radius, radius, paint_of(colour))

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Rgb, alpha: float = 1.0) -> None:
        self.canvas.drawOval(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry), paint_of(colour, alpha))

    def glow(self, x: float, y: float, radius: float, colour: Rgb, alpha: float) -> None:
        """Light that fades to nothing at `radius`."""
        shader = skia.GradientShader.MakeRadial(
            skia.Point(x, y), radius, colors((colour, alpha), (colour, alpha * 0.35), (colour, 0.0)), [0, 0.45, 1]
        )
        self.canvas.drawCircle(x, y, radius, skia.Paint(AntiAlias=True, Shader=shader))

    def line(self, points: list[tuple[float, float]], width: float, colour: Rgb, alpha: float = 1.0) -> None:
        """A smooth stroke through the points."""
        paint = paint_of(colour, alpha, Style=skia.Paint.kStroke_Style, StrokeWidth=width)
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        paint.setStrokeJoin(skia.Paint.kRound_Join)
        self.canvas.drawPath(smooth(points), paint)

    def ridge(self, base: float, points: list[tuple[float, float]], top: Rgb, bottom: Rgb) -> None:
        """Land under a smooth line from edge to edge, down to `base`."""
        path = smooth(points)
        path.lineTo(points[-1][0], base)
        path.lineTo(points[0][0], base)
        path.close()
        self.fill(path, top, bottom)


def smooth(points: list[tuple[float, float]]) -> skia.Path:
    """A path through the points by Catmull and Rom's rule."""
    path = skia.Path()
    path.moveTo(*points[0])
    ends = [points[0], *points, points[-1]]
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:]):
        path.cubicTo(
            b[0] + (c[0] - a[0]) / 6, b[1] + (c[1] - a[1]) / 6, c[0] - (d[0] - b[0]) / 6, c[1] - (d[1] - b[1]) / 6, *c
        )
    return path
