"""Objects that are not whole: parts removed, displaced or doubled, or the object melted. The judge learns from them."""

from __future__ import annotations

import random

import numpy as np
import skia

from .pen import Pen

KINDS = ("removed", "displaced", "doubled", "melted")
# A part whose longer side is less than this share of the object's is a detail: without it the object is still whole.
PART = 0.28
# The least share of the object's box that must look different.
VISIBLE = 0.04


class Recorder:
    """A canvas that draws nothing and keeps the box of every part, `None` for glows and shadows."""

    def __init__(self):
        self.boxes: list[skia.Rect | None] = []

    def drawPath(self, path: skia.Path, paint: skia.Paint) -> None:
        box = path.getBounds().makeOffset(0, 0)
        if paint.getStyle() == skia.Paint.kStroke_Style:
            box.outset(paint.getStrokeWidth() / 2, paint.getStrokeWidth() / 2)
        self.add(box, paint)

    def drawRoundRect(self, rect: skia.Rect, rx: float, ry: float, paint: skia.Paint) -> None:
        self.add(rect, paint)

    def drawOval(self, rect: skia.Rect, paint: skia.Paint) -> None:
        self.add(rect, paint)

    def drawCircle(self, *_) -> None:
        self.boxes.append(None)

    def add(self, box: skia.Rect, paint: skia.Paint) -> None:
        self.boxes.append(box.makeOffset(0, 0) if paint.getAlphaf() > 0.5 else None)


class Altered:
    """A canvas that leaves out some parts, moves some and draws some twice: `moves[i]` has the offsets of part `i`."""

    def __init__(self, canvas: skia.Canvas, moves: dict[int, list[tuple[float, float]]]):
        self.canvas, self.moves, self.count = canvas, moves, 0

    def __getattr__(self, name: str):
        method = getattr(self.canvas, name)

        def draw(*arguments) -> None:
            for dx, dy in self.moves.get(self.count, [(0, 0)]):
                self.canvas.save()
                self.canvas.translate(dx, dy)
                method(*arguments)
                self.canvas.restore()
            self.count += 1

        return draw


class Fault:
    """Something wrong with the first object of one kind that `render` draws."""

    def __init__(self, name: str, rng: random.Random):
        self.name, self.rng = name, rng
        self.kind = rng.choice(KINDS)
        self.box: skia.Rect | None = None

    def draw(self, pen: Pen, draw) -> None:
        """Calls `draw`, which draws one object with `pen`, with the fault."""
        if self.box is not None:
            draw()
            return
        canvas, state = pen.canvas, pen.rng.getstate()
        pen.canvas = recorder = Recorder()
        draw()
        pen.rng.setstate(state)
        self.box = union(recorder.boxes)
        pen.canvas = Altered(canvas, self.moves(recorder.boxes))
        draw()
        pen.canvas = canvas

    def moves(self, boxes: list[skia.Rect | None]) -> dict[int, list[tuple[float, float]]]:
        size = max(self.box.width(), self.box.height())
        parts = [i for i, box in enumerate(boxes) if box and max(box.width(), box.height()) >= PART * size]
        chosen = self.rng.sample(parts, min(len(parts), self.rng.choice((1, 1, 2))))
        far = lambda: self.rng.choice((-1, 1)) * self.rng.uniform(0.22, 0.5) * size
        if self.kind == "removed":
            return {i: [] for i in chosen}
        if self.kind == "displaced":
            return {i: [(far(), far() * 0.7)] for i in chosen}
        if self.kind == "doubled":
            doubled = parts if self.rng.random() < 0.5 else chosen
            offset = (far() * 0.7, far() * 0.3)
            return {i: [(0, 0), offset] for i in doubled}
        return {}

    def finish(self, image: np.ndarray) -> np.ndarray:
        """Melts the object's box if that is the fault."""
        return melt(image, self.box, self.rng) if self.kind == "melted" and self.box else image

    def visible(self, broken: np.ndarray, whole: np.ndarray) -> bool:
        """Whether enough of the object's box looks different."""
        if self.box is None:
            return False
        rows, columns = place(self.box, whole.shape, 0.2)
        difference = np.abs(broken[rows, columns].astype(np.int16) - whole[rows, columns]).max(-1)
        return difference.size > 0 and float((difference > 16).mean()) >= VISIBLE


def union(boxes: list[skia.Rect | None]) -> skia.Rect:
    total = skia.Rect.MakeEmpty()
    for box in filter(None, boxes):
        total.join(box)
    return total


def place(box: skia.Rect, shape: tuple[int, ...], margin: float) -> tuple[slice, slice]:
    """Rows and columns of a box with a margin, within the image."""
    dx, dy = box.width() * margin, box.height() * margin
    rows = slice(max(0, int(box.top() - dy)), max(0, min(shape[0], int(box.bottom() + dy))))
    return rows, slice(max(0, int(box.left() - dx)), max(0, min(shape[1], int(box.right() + dx))))


def melt(image: np.ndarray, box: skia.Rect, rng: random.Random) -> np.ndarray:
    """Moves the pixels of a box by a smooth random field that fades out at its border."""
    rows, columns = place(box, image.shape, 0.1)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if height < 8 or width < 8:
        return image
    strength = rng.uniform(0.10, 0.2) * max(height, width)
    waves = np.random.default_rng(rng.getrandbits(32))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    fade = np.sin(np.pi * (y + 0.5) / height) ** 0.5 * np.sin(np.pi * (x + 0.5) / width) ** 0.5
    dy, dx = (strength * fade * field(waves, y / height, x / width) for _ in range(2))
    y, x = np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)
    y0, x0 = np.minimum(y.astype(int), height - 2), np.minimum(x.astype(int), width - 2)
    fy, fx = (y - y0)[..., None], (x - x0)[..., None]
    old = image[rows, columns].astype(np.float32)
    top = old[y0, x0] * (1 - fx) + old[y0, x0 + 1] * fx
    low = old[y0 + 1, x0] * (1 - fx) + old[y0 + 1, x0 + 1] * fx
    made = image.copy()
    made[rows, columns] = np.round(top * (1 - fy) + low * fy).astype(np.uint8)
    return made


def field(waves: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A sum of a few waves of random direction and phase, about -1 to 1."""
    total = np.zeros_like(y)
    for _ in range(4):
        ky, kx = waves.uniform(-9, 9, 2)
        total += np.sin(ky * y + kx * x + waves.uniform(0, 6.3)) / 2.5
    return total
