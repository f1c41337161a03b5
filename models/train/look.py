"""The two judges in numpy: the attributes of an image, whether its objects are whole, and the strength of its edges."""

from __future__ import annotations

import pathlib

import numpy as np
from labels import CLASSES, OBJECTS
from PIL import Image


def store(path: pathlib.Path, weights: dict[str, np.ndarray]) -> None:
    """Writes matrices and kernels as int8 with a scale for each output, and vectors as float16."""
    found = {}
    for name, value in weights.items():
        if value.ndim == 1:
            found[name] = value.astype(np.float16)
            continue
        scale = np.abs(value).max(tuple(range(1, value.ndim)), keepdims=True) / 127
        found |= {name: np.round(value / scale).astype(np.int8), f"{name}.scale": scale.astype(np.float32)}
    np.savez_compressed(path, **found)


def stored(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The weights that `store` wrote, as float32."""
    found = {name: value.astype(np.float32) for name, value in np.load(path).items()}
    return {
        name: value * found.get(f"{name}.scale", np.float32(1))
        for name, value in found.items()
        if not name.endswith(".scale")
    }


class Network:
    """`judge.py`'s network in numpy, for views of the side length that it was trained on."""

    def __init__(self, path: pathlib.Path):
        self.weights = stored(path)
        cells = self.weights["hidden.weight"].shape[1] // len(self.weights["narrow.weight"])
        self.side = 32 * round(cells**0.5)

    def logits(self, image: Image.Image) -> np.ndarray:
        small = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BILINEAR)
        x = np.asarray(small).transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
        layer = 0
        while f"conv{layer}.weight" in self.weights:
            x = self.conv(x, f"conv{layer}")
            layer += 1
        narrow = self.weights["narrow.weight"][:, :, 0, 0]
        x = np.einsum("oc,cyx->oyx", narrow, x) + self.weights["narrow.bias"][:, None, None]
        x = self.linear(np.maximum(x, 0).reshape(-1), "hidden")
        return self.linear(np.maximum(x, 0), "out")

    def conv(self, x: np.ndarray, name: str) -> np.ndarray:
        """3x3, stride 2, padding 1, ReLU."""
        weight = self.weights[f"{name}.weight"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
        made = np.tensordot(weight, windows, ((1, 2, 3), (0, 3, 4)))
        return np.maximum(made + self.weights[f"{name}.bias"][:, None, None], 0)

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]


class Judge(Network):
    """The attributes of an image."""

    def __call__(self, image: Image.Image) -> dict[str, int]:
        """The class number of every label that this judge knows: some were added after older ones were trained."""
        logits, found, start = self.logits(image), {}, 0
        for name, values in CLASSES.items():
            if start == len(logits):
                break
            found[name] = int(logits[start : start + len(values)].argmax())
            start += len(values)
        return found


class WholeJudge(Network):
    """Whether the objects of an image are whole. For absent objects the value is meaningless."""

    def __call__(self, image: Image.Image) -> dict[str, bool]:
        return {name: bool(logit > 0) for name, logit in zip(OBJECTS, self.logits(image), strict=True)}


PERCENTILES = (90, 99, 99.9)


def edges(image: Image.Image) -> np.ndarray:
    """The strength of the image's edges: percentiles of the luminance's gradient, in levels of 255 a pixel."""
    grey = np.asarray(image.convert("L"), np.float32)
    strength = np.hypot(np.diff(grey, axis=0)[:, :-1], np.diff(grey, axis=1)[:-1])
    return np.percentile(strength, PERCENTILES)
