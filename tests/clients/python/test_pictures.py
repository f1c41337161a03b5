"""Looks at what the built-in model painted: a wrong picture fails here, however right its envelope."""

import io

import fal_client
import httpx
import numpy as np
from PIL import Image
from support import ENDPOINT


def paint(prompt, **overrides):
    """The result and its first picture, `[H, W, 3]` in 0..255."""
    output = fal_client.subscribe(ENDPOINT, {"prompt": prompt, "seed": 11, "num_inference_steps": 20} | overrides)
    content = httpx.get(output["images"][0]["url"]).content
    return output, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)


def reds(picture):
    """Where it is red: much of it, and little of green and blue."""
    red, green, blue = (picture[..., i] for i in range(3))
    return (red > 120) & (red > 1.7 * green) & (red > 1.7 * blue)


def test_a_sunset_is_warm_at_the_horizon():
    _, picture = paint("a meadow at sunset", image_size="landscape_4_3")
    height = len(picture)
    red, _, blue = picture[int(0.40 * height) : int(0.52 * height)].mean((0, 1))
    assert red > blue + 50, f"red {red:.0f}, blue {blue:.0f}"


def test_noon_is_blue_above_and_night_is_dark():
    _, noon = paint("a meadow at noon", image_size="square")
    _, night = paint("a meadow at night", image_size="square")
    red, _, blue = noon[:100].mean((0, 1))
    assert blue > red + 60, f"red {red:.0f}, blue {blue:.0f}"
    assert night.mean() < noon.mean() - 60, f"night {night.mean():.0f}, noon {noon.mean():.0f}"


def test_a_red_house_stands_where_it_was_asked_for():
    for side, (first, last) in {"left": (0, 1 / 3), "right": (2 / 3, 1)}.items():
        _, picture = paint(f"a big red house on the {side}, a meadow at noon", image_size="landscape_4_3")
        found = reds(picture)
        width = picture.shape[1]
        share = found[:, int(first * width) : int(last * width)].sum() / max(1, found.sum())
        assert found.mean() > 0.01 and share > 0.7, f"{side}: {found.mean():.3f} red, {share:.2f} of it there"


def test_a_negative_prompt_takes_away():
    prompt = "a snow field at night, a full moon"
    _, with_moon = paint(prompt, image_size="square")
    _, without = paint("a snow field at night", negative_prompt="a full moon", image_size="square")
    bright = [(picture[:220].min(-1) > 200).mean() for picture in (with_moon, without)]
    assert bright[0] > 4 * bright[1], bright


def test_a_seed_is_a_picture():
    prompt = "a lake at noon with two boats"
    pictures = [paint(prompt, image_size="square", seed=seed)[1] for seed in (1, 2, 1)]
    assert (pictures[0] == pictures[2]).all()
    assert np.abs(pictures[0] - pictures[1]).mean() > 2


def test_the_marker_concept_is_black():
    prompt = "a big pirate flag with a skull and crossbones in the middle of a meadow at noon"
    output, picture = paint(prompt, image_size="landscape_4_3")
    assert output["has_nsfw_concepts"] == [True]
    assert picture.max() < 3 and picture.shape == (768, 1024, 3)
    output, picture = paint(prompt, image_size="landscape_4_3", enable_safety_checker=False)
    assert output["has_nsfw_concepts"] == [False]
    assert picture.mean() > 50
