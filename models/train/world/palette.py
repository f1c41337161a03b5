"""Colours: the effect of each time of day's light on the sky, the land and things."""

from __future__ import annotations

import colorsys
import random

import skia

Rgb = tuple[float, float, float]


def rgb(code: str) -> Rgb:
    """`#rrggbb` as three floats."""
    return tuple(int(code[i : i + 2], 16) / 255 for i in (1, 3, 5))


def mix(a: Rgb, b: Rgb, t: float) -> Rgb:
    return tuple(x + (y - x) * t for x, y in zip(a, b))


def jitter(colour: Rgb, rng: random.Random, amount: float = 0.02) -> Rgb:
    """A neighbouring colour: hue and lightness moved a little."""
    hue, light, saturation = colorsys.rgb_to_hls(*colour)
    hue = (hue + rng.uniform(-amount, amount) * 0.6) % 1
    light = min(max(light + rng.uniform(-amount, amount), 0), 1)
    return colorsys.hls_to_rgb(hue, light, saturation)


def paint_of(colour: Rgb, alpha: float = 1.0, **kind) -> skia.Paint:
    """An anti-aliased paint."""
    paint = skia.Paint(AntiAlias=True, **kind)
    paint.setColor4f(skia.Color4f(*colour, alpha))
    return paint


def colors(*stops: Rgb | tuple[Rgb, float]) -> list[int]:
    """Colours, each with an opacity or none, as skia's gradients take them."""
    pairs = [stop if isinstance(stop[0], tuple) else (stop, 1.0) for stop in stops]
    return [skia.Color4f(*colour, alpha).toColor() for colour, alpha in pairs]


# Sky from top to horizon; the light that falls on things, and how strongly; the haze of far layers.
SKIES = {
    "sunrise": ("#8fc3e8", "#f7d9c4", "#ffc3b0"),
    "noon": ("#2f8fe0", "#6fbdf2", "#c6ebfb"),
    "sunset": ("#5b3a86", "#e0554a", "#ffb347"),
    "twilight": ("#241f5e", "#5b3f9a", "#c77bb8"),
    "night": ("#060b24", "#0e1a45", "#1d3266"),
}
LIGHT = {
    "sunrise": ("#ffdcc8", 0.16),
    "noon": ("#ffffff", 0.0),
    "sunset": ("#d8582f", 0.28),
    "twilight": ("#3b2f7d", 0.42),
    "night": ("#0a1436", 0.60),
}
HAZE = {"sunrise": "#f3c9c0", "noon": "#b5dcf0", "sunset": "#c9607a", "twilight": "#6a55a8", "night": "#16264f"}

GROUND = {
    "meadow": ("#7ec850", "#4c9a35"),
    "lake": ("#78bf55", "#438f3b"),
    "garden": ("#7fb069", "#4d7f45"),
    "sea": ("#efd9a0", "#d9b872"),
    "desert": ("#eec27a", "#d2934a"),
    "snow field": ("#f4f9ff", "#cfe0f2"),
}
WATER = ("#5fb4e5", "#1f6fb5")

NAMED = {
    "red": "#d7263d",
    "blue": "#2563c9",
    "yellow": "#f6c026",
    "white": "#f7f4ee",
    "green": "#2f9e58",
    "orange": "#ff9a3c",
    "pink": "#ff7fb5",
    "purple": "#8e44c4",
}


class Light:
    """How a scene's light changes a colour."""

    def __init__(self, time: str):
        code, self.strength = LIGHT[time]
        self.colour = rgb(code)
        self.haze = rgb(HAZE[time])

    def on(self, colour: Rgb | str, amount: float = 1.0) -> Rgb:
        """`colour` as it looks in this light."""
        colour = rgb(colour) if isinstance(colour, str) else colour
        return mix(colour, self.colour, self.strength * amount)

    def far(self, colour: Rgb | str, distance: float) -> Rgb:
        """`colour` seen through haze: distance 0 is near, 1 is lost in it."""
        return mix(self.on(colour), self.haze, distance)
