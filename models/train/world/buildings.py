"""Buildings and artefacts: house, tower, torii gate, bridge, boat, lantern, flag."""

from __future__ import annotations

import skia

from .palette import NAMED, mix, paint_of, rgb
from .pen import Pen
from .scene import Scene, Thing

ROOFS = {"red": "#6d3b2e", "blue": "#33415f", "yellow": "#a8502f", "white": "#5b6b7d", "green": "#704a33"}
BLACK = (0.0, 0.0, 0.0)


def house(pen: Pen, scene: Scene, x: float, foot: float, unit: float, thing: Thing) -> None:
    """A gabled house, its window lit when it is dark."""
    wall, roof = pen.light.on(NAMED[thing.colour]), pen.light.on(ROOFS[thing.colour])
    half, tall = 92 * unit, 112 * unit
    pen.rect(x + 34 * unit, foot - tall - 84 * unit, 26 * unit, 64 * unit, mix(roof, BLACK, 0.2))
    pen.shade(
        [(x - half, foot - tall), (x + half, foot - tall), (x + half, foot), (x - half, foot)],
        mix(wall, (1, 1, 1), 0.08),
        mix(wall, BLACK, 0.10),
    )
    pen.polygon([(x - half, foot - tall), (x + half, foot - tall), (x, foot - tall - 78 * unit)], wall)
    eaves = [
        (x, foot - tall - 100 * unit),
        (x + half + 26 * unit, foot - tall + 6 * unit),
        (x + half + 6 * unit, foot - tall + 18 * unit),
        (x, foot - tall - 66 * unit),
        (x - half - 6 * unit, foot - tall + 18 * unit),
        (x - half - 26 * unit, foot - tall + 6 * unit),
    ]
    pen.polygon(eaves, roof)
    pen.rect(x - 20 * unit, foot - 68 * unit, 40 * unit, 68 * unit, pen.light.on("#5a3822"), 4 * unit)
    lit = rgb("#ffd76a") if scene.dark else pen.light.on("#dff1fb")
    for dx in (-66, 34):
        if scene.dark:
            pen.glow(x + (dx + 16) * unit, foot - 78 * unit, 62 * unit, rgb("#ffcf5c"), 0.45)
        pen.rect(x + dx * unit, foot - 96 * unit, 34 * unit, 36 * unit, pen.light.on("#fffaf0"), 3 * unit)
        pen.rect(x + (dx + 4) * unit, foot - 92 * unit, 26 * unit, 28 * unit, lit)


def tower(pen: Pen, scene: Scene, x: float, foot: float, unit: float, thing: Thing) -> None:
    """A round stone tower with battlements under a cone."""
    stone = pen.light.on("#b9b2a8")
    dark = mix(stone, BLACK, 0.22)
    pen.shade(
        [
            (x - 44 * unit, foot - 290 * unit),
            (x + 44 * unit, foot - 290 * unit),
            (x + 54 * unit, foot),
            (x - 54 * unit, foot),
        ],
        stone,
        dark,
    )
    pen.rect(x - 62 * unit, foot - 310 * unit, 124 * unit, 34 * unit, dark)
    pen.polygon(
        [(x - 78 * unit, foot - 308 * unit), (x + 78 * unit, foot - 308 * unit), (x, foot - 430 * unit)],
        pen.light.on("#3f5c9a"),
    )
    lit = rgb("#ffd76a") if scene.dark else mix(stone, BLACK, 0.6)
    for y in (240, 160):
        pen.rect(x - 13 * unit, foot - y * unit, 26 * unit, 44 * unit, lit, 13 * unit)
    pen.rect(x - 20 * unit, foot - 62 * unit, 40 * unit, 62 * unit, pen.light.on("#5a3822"), 18 * unit)


def torii(pen: Pen, scene: Scene, x: float, foot: float, unit: float, thing: Thing) -> None:
    """A vermilion gate: two posts, a tie beam, a curved lintel with a black cap."""
    red, black = pen.light.on("#e2452b", 0.8), pen.light.on("#33272a")
    for side in (-1, 1):
        post = [
            (x + side * 74 * unit, foot - 210 * unit),
            (x + side * 92 * unit, foot - 210 * unit),
            (x + side * 104 * unit, foot),
            (x + side * 80 * unit, foot),
        ]
        pen.polygon(post, red)
        pen.rect(x + side * 92 * unit - 18 * unit, foot - 18 * unit, 36 * unit, 18 * unit, black)
    pen.rect(x - 122 * unit, foot - 168 * unit, 244 * unit, 22 * unit, red)
    pen.rect(x - 12 * unit, foot - 206 * unit, 24 * unit, 42 * unit, red)
    for lift, thick, colour in ((0, 30, red), (26, 16, black)):
        top, wing = foot - (214 + lift) * unit, 150 * unit
        path = skia.Path()
        path.moveTo(x - wing, top - 26 * unit)
        path.quadTo(x, top + 10 * unit, x + wing, top - 26 * unit)
        path.lineTo(x + wing * 0.95, top + (thick - 24) * unit)
        path.quadTo(x, top + (thick + 8) * unit, x - wing * 0.95, top + (thick - 24) * unit)
        path.close()
        pen.canvas.drawPath(path, paint_of(colour))


def bridge(pen: Pen, scene: Scene) -> None:
    """An arched wooden bridge over the middle of the water."""
    u, x = pen.u, pen.width / 2
    y = pen.height * (0.775 if scene.ground == "lake" else 0.80)
    half, rise = pen.width * 0.17 + 110 * u, 92 * u
    wood = pen.light.on("#a4552f", 0.8)
    deep = mix(wood, BLACK, 0.3)

    def arc(lift: float) -> list[tuple[float, float]]:
        return [(x + half * t, y - rise * (1 - t * t) - lift * u) for t in (i / 8 - 1 for i in range(17))]

    for side in range(9):
        t = side / 4 - 1
        foot = y - rise * (1 - t * t)
        pen.rect(x + half * t - 6 * u, foot - 64 * u, 12 * u, 66 * u, deep, 3 * u)
    pen.line(arc(0), 28 * u, wood)
    pen.line(arc(-14), 10 * u, deep)
    pen.line(arc(62), 13 * u, wood)


def boat(pen: Pen, scene: Scene, x: float, y: float, unit: float, thing: Thing) -> None:
    """A sailing boat: the hull has the colour, the sail is cream."""
    hull, sail = pen.light.on(NAMED[thing.colour]), pen.light.on("#fff4dc", 0.8)
    pen.ellipse(x, y + 4 * unit, 84 * unit, 9 * unit, mix(pen.light.on("#174a7c"), BLACK, 0.2), 0.35)
    pen.rect(x - 4 * unit, y - 138 * unit, 8 * unit, 112 * unit, pen.light.on("#5a3822"))
    pen.polygon([(x + 8 * unit, y - 136 * unit), (x + 66 * unit, y - 46 * unit), (x + 8 * unit, y - 46 * unit)], sail)
    pen.polygon(
        [(x - 8 * unit, y - 122 * unit), (x - 48 * unit, y - 46 * unit), (x - 8 * unit, y - 46 * unit)],
        mix(sail, BLACK, 0.08),
    )
    path = skia.Path()
    path.moveTo(x - 84 * unit, y - 38 * unit)
    path.lineTo(x + 84 * unit, y - 38 * unit)
    path.quadTo(x + 66 * unit, y + 6 * unit, x + 40 * unit, y + 6 * unit)
    path.lineTo(x - 44 * unit, y + 6 * unit)
    path.quadTo(x - 68 * unit, y + 6 * unit, x - 84 * unit, y - 38 * unit)
    path.close()
    pen.fill(path, mix(hull, (1, 1, 1), 0.08), mix(hull, BLACK, 0.18))


def lantern(pen: Pen, scene: Scene, x: float, y: float, unit: float, thing: Thing) -> None:
    """A floating paper lantern with a light inside."""
    colour = mix(rgb(NAMED[thing.colour]), (1, 1, 1), 0.06)
    pen.glow(x, y, 104 * unit, colour, 0.62 if scene.dark else 0.34)
    path = skia.Path()
    path.addRoundRect(
        skia.Rect.MakeLTRB(x - 34 * unit, y - 42 * unit, x + 34 * unit, y + 42 * unit), 26 * unit, 30 * unit
    )
    pen.fill(path, mix(colour, (1, 0.95, 0.7), 0.25), colour)
    pen.ellipse(x, y + 10 * unit, 17 * unit, 22 * unit, (1, 0.97, 0.78), 0.75)
    for dy in (-46, 36):
        pen.rect(x - 18 * unit, y + dy * unit, 36 * unit, 10 * unit, mix(colour, BLACK, 0.55), 3 * unit)


def banner(pen: Pen, scene: Scene, x: float, foot: float, unit: float, thing: Thing) -> None:
    """A plain flag of one colour on a pole; a smaller one on the tip of the tower that stands on the same side."""
    tower = scene.things.get("tower")
    if tower and tower.side == thing.side:
        foot, unit = foot - 426 * unit, 0.42 * unit
    pen.rect(x - 6 * unit, foot - 330 * unit, 14 * unit, 332 * unit, pen.light.on("#8a5a33"), 5 * unit)
    colour, way = pen.light.on(NAMED[thing.colour], 0.7), -1 if x > 0.62 * pen.width else 1

    def at(dx: float, dy: float) -> tuple[float, float]:
        return x + way * (7 + dx) * unit, foot + (dy - 324) * unit

    path = skia.Path()
    path.moveTo(*at(0, 0))
    path.cubicTo(*at(70, -26), *at(130, 26), *at(206, 0))
    path.lineTo(*at(206, 132))
    path.cubicTo(*at(130, 158), *at(70, 106), *at(0, 132))
    path.close()
    pen.fill(path, mix(colour, (1, 1, 1), 0.08), mix(colour, BLACK, 0.14))


def flag(pen: Pen, scene: Scene, x: float, foot: float, unit: float, thing: Thing) -> None:
    """The marker of the safety classifier: a skull and crossbones on black, on a pole."""
    bone = rgb("#fbf9f0")
    pen.rect(x - 118 * unit, foot - 330 * unit, 14 * unit, 330 * unit, pen.light.on("#8a5a33"), 5 * unit)
    path = skia.Path()
    left, top = x - 104 * unit, foot - 326 * unit
    path.moveTo(left, top)
    path.cubicTo(left + 80 * unit, top - 18 * unit, left + 150 * unit, top + 22 * unit, left + 236 * unit, top)
    path.lineTo(left + 236 * unit, top + 172 * unit)
    path.cubicTo(left + 150 * unit, top + 194 * unit, left + 80 * unit, top + 154 * unit, left, top + 172 * unit)
    path.close()
    pen.canvas.drawPath(path, paint_of(rgb("#15151c")))
    cx, cy = left + 118 * unit, top + 72 * unit
    for way in (-1, 1):
        pen.line(
            [(cx - 66 * unit, cy + way * 34 * unit + 36 * unit), (cx + 66 * unit, cy - way * 34 * unit + 36 * unit)],
            17 * unit,
            bone,
        )
    pen.ellipse(cx, cy, 46 * unit, 42 * unit, bone)
    pen.rect(cx - 26 * unit, cy + 22 * unit, 52 * unit, 36 * unit, bone, 9 * unit)
    for dx in (-19, 19):
        pen.ellipse(cx + dx * unit, cy + 4 * unit, 13 * unit, 14 * unit, rgb("#15151c"))
    pen.polygon(
        [(cx, cy + 18 * unit), (cx + 8 * unit, cy + 32 * unit), (cx - 8 * unit, cy + 32 * unit)], rgb("#15151c")
    )


def mound(pen: Pen, scene: Scene, x: float, foot: float, half: float) -> None:
    """Draws ground under an object that would otherwise stand on water."""
    code = {"sea": "#c9b27a", "lake": "#67ab4b"}.get(scene.ground)
    if code is None:
        return
    path = skia.Path()
    path.moveTo(x - half * 1.5, foot + 14 * pen.u)
    path.cubicTo(x - half, foot - 22 * pen.u, x + half, foot - 22 * pen.u, x + half * 1.5, foot + 14 * pen.u)
    path.cubicTo(
        x + half * 0.7, foot + 34 * pen.u, x - half * 0.7, foot + 34 * pen.u, x - half * 1.5, foot + 14 * pen.u
    )
    colour = pen.light.on(code)
    pen.fill(path, colour, mix(colour, BLACK, 0.25))


HALF = {"house": 118, "tower": 78, "torii": 150, "tree": 60, "cherry": 60, "flag": 120, "banner": 60}
DRAW = {"house": house, "tower": tower, "torii": torii, "flag": flag, "banner": banner}
