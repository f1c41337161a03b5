"""What grows: tree, cherry tree, mushrooms, flowers."""

from __future__ import annotations

import skia

from .palette import NAMED, mix, rgb
from .pen import Pen
from .scene import Scene, Thing

BLACK = (0.0, 0.0, 0.0)


def tree(pen: Pen, scene: Scene, x: float, foot: float, unit: float, thing: Thing) -> None:
    """A round green tree; a palm in the desert or at the sea; snow on its crown in the snow."""
    if scene.ground in ("desert", "sea"):
        return palm(pen, x, foot, unit)
    pen.polygon(
        [
            (x - 14 * unit, foot - 150 * unit),
            (x + 14 * unit, foot - 150 * unit),
            (x + 22 * unit, foot),
            (x - 22 * unit, foot),
        ],
        pen.light.on("#7a4d2b"),
    )
    leaf = pen.light.on("#3d9a4b")
    for dx, dy, r in ((-52, -150, 62), (52, -150, 62), (0, -204, 80)):
        pen.ellipse(x + dx * unit, foot + dy * unit, r * unit, r * unit, mix(leaf, BLACK, 0.12))
    for dx, dy, r in ((-44, -164, 46), (34, -170, 44), (-8, -222, 60)):
        pen.ellipse(x + dx * unit, foot + dy * unit, r * unit, r * unit, leaf)
    if scene.ground == "snow field":
        for dx, dy, rx, ry in ((-48, -196, 38, 18), (44, -198, 36, 17), (-4, -262, 52, 24)):
            pen.ellipse(x + dx * unit, foot + dy * unit, rx * unit, ry * unit, pen.light.on("#ffffff", 0.7))


def palm(pen: Pen, x: float, foot: float, unit: float) -> None:
    pen.line(
        [(x, foot), (x + 8 * unit, foot - 100 * unit), (x + 30 * unit, foot - 210 * unit)],
        22 * unit,
        pen.light.on("#94683c"),
    )
    leaf, cx, cy = pen.light.on("#37994f"), x + 30 * unit, foot - 214 * unit
    for dx, dy in ((-104, 30), (-84, -34), (0, -64), (88, -34), (106, 30)):
        pen.line(
            [(cx, cy), (cx + dx * 0.55 * unit, cy + (dy - 30) * unit), (cx + dx * unit, cy + dy * unit)],
            24 * unit,
            leaf,
        )


def cherry(pen: Pen, scene: Scene, x: float, foot: float, unit: float, thing: Thing) -> None:
    """A cherry tree in blossom, with petals in the air."""
    bark = pen.light.on("#5b3a33")
    pen.line(
        [(x - 6 * unit, foot), (x + 8 * unit, foot - 80 * unit), (x - 4 * unit, foot - 160 * unit)], 32 * unit, bark
    )
    pen.line([(x + 4 * unit, foot - 104 * unit), (x + 68 * unit, foot - 176 * unit)], 16 * unit, bark)
    pen.line([(x + 2 * unit, foot - 114 * unit), (x - 70 * unit, foot - 180 * unit)], 16 * unit, bark)
    pink = pen.light.on("#ff9ec4", 0.6)
    if scene.dark:
        pen.glow(x, foot - 230 * unit, 230 * unit, rgb("#ff9fd0"), 0.34)
    for dx, dy, r in ((-92, -196, 56), (92, -198, 58), (-40, -246, 66), (44, -256, 68), (0, -198, 62)):
        pen.ellipse(x + dx * unit, foot + dy * unit, r * unit, r * unit * 0.88, mix(pink, rgb("#c8457f"), 0.28))
    for dx, dy, r in ((-96, -208, 40), (84, -214, 42), (-40, -264, 48), (40, -272, 50), (0, -216, 42)):
        pen.ellipse(x + dx * unit, foot + dy * unit, r * unit, r * unit * 0.82, mix(pink, (1, 1, 1), 0.16))
    for _ in range(9):
        dx, dy = pen.rng.uniform(-150, 150), pen.rng.uniform(-150, -10)
        pen.ellipse(x + dx * unit, foot + dy * unit, 7 * unit, 5 * unit, mix(pink, (1, 1, 1), 0.2))


def mushrooms(pen: Pen, scene: Scene) -> None:
    """Glowing mushrooms in two groups in the foreground."""
    blue, violet = rgb("#66d9ff"), rgb("#b58cff")
    for slot in (0.12, 0.88):
        x0, y0 = pen.width * (slot + pen.rng.uniform(-0.02, 0.02)), pen.height * 0.955
        for dx, dy, size, colour in ((-40, 0, 1.0, blue), (38, 6, 0.85, violet), (0, -26, 1.25, violet)):
            x, y, unit = x0 + dx * pen.u, y0 + dy * pen.u, size * pen.u
            pen.glow(x, y - 40 * unit, 96 * unit, colour, 0.55 if scene.dark else 0.36)
            pen.rect(x - 9 * unit, y - 40 * unit, 18 * unit, 44 * unit, mix(colour, (1, 1, 1), 0.65), 7 * unit)
            cap(pen, x, y - 38 * unit, unit, colour)


def cap(pen: Pen, x: float, y: float, unit: float, colour) -> None:
    path = skia.Path()
    path.moveTo(x - 36 * unit, y)
    path.cubicTo(x - 34 * unit, y - 56 * unit, x + 34 * unit, y - 56 * unit, x + 36 * unit, y)
    path.close()
    pen.fill(path, mix(colour, (1, 1, 1), 0.35), colour)
    for dx, dy in ((-14, -14), (12, -20)):
        pen.ellipse(x + dx * unit, y + dy * unit, 6 * unit, 5 * unit, (1, 1, 1), 0.85)


def flowers(pen: Pen, scene: Scene, thing: Thing) -> None:
    """A foreground full of flowers of one colour."""
    colour = pen.light.on(NAMED[thing.colour], 0.55)
    heart = pen.light.on("#ffcf3f" if thing.colour != "yellow" else "#b5651d", 0.55)
    columns = max(6, round(pen.width / (92 * pen.u)))
    for row, (y, size) in enumerate(((0.895, 0.85), (0.955, 1.1))):
        for column in range(columns):
            x = (column + 0.25 + 0.5 * (row % 2) + pen.rng.uniform(-0.2, 0.2)) / columns * pen.width
            flower(pen, x, pen.height * (y + pen.rng.uniform(-0.012, 0.012)), size * pen.u, colour, heart)


def flower(pen: Pen, x: float, y: float, unit: float, colour, heart) -> None:
    pen.line([(x, y), (x, y + 34 * unit)], 6 * unit, pen.light.on("#2f7d3a"))
    for dx, dy in ((0, -13), (12, -4), (8, 10), (-8, 10), (-12, -4)):
        pen.ellipse(x + dx * unit, y + dy * unit, 11 * unit, 11 * unit, colour)
    pen.ellipse(x, y, 8 * unit, 8 * unit, heart)
