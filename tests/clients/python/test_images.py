"""Checks the pixels of the built-in model's images, which a correct response alone does not show to be right."""

import io

import fal_client
import httpx
import numpy as np
from PIL import Image
from support import ENDPOINT


def generate(prompt, **overrides):
    """The result and its first image, `[H, W, 3]` in 0..255."""
    output = fal_client.subscribe(ENDPOINT, {"prompt": prompt, "seed": 11, "num_inference_steps": 20} | overrides)
    content = httpx.get(output["images"][0]["url"]).content
    return output, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)


def reds(image):
    """A mask of the red pixels: high red, low green and blue."""
    red, green, blue = (image[..., i] for i in range(3))
    return (red > 120) & (red > 1.7 * green) & (red > 1.7 * blue)


def test_a_sunset_is_warm_at_the_horizon():
    _, image = generate("a meadow at sunset", image_size="landscape_4_3")
    height = len(image)
    red, _, blue = image[int(0.40 * height) : int(0.52 * height)].mean((0, 1))
    assert red > blue + 50, f"red {red:.0f}, blue {blue:.0f}"


def test_noon_is_blue_above_and_night_is_dark():
    _, noon = generate("a meadow at noon", image_size="square")
    _, night = generate("a meadow at night", image_size="square")
    red, _, blue = noon[:100].mean((0, 1))
    assert blue > red + 60, f"red {red:.0f}, blue {blue:.0f}"
    assert night.mean() < noon.mean() - 60, f"night {night.mean():.0f}, noon {noon.mean():.0f}"


def test_a_red_house_is_on_the_side_of_the_prompt():
    for side, (first, last) in {"left": (0, 1 / 3), "right": (2 / 3, 1)}.items():
        _, image = generate(f"a big red house on the {side}, a meadow at noon", image_size="landscape_4_3")
        found = reds(image)
        width = image.shape[1]
        share = found[:, int(first * width) : int(last * width)].sum() / max(1, found.sum())
        assert found.mean() > 0.01 and share > 0.7, f"{side}: {found.mean():.3f} red, {share:.2f} of it there"


def test_a_negative_prompt_removes_what_it_names():
    prompt = "a snow field at night, a full moon"
    _, with_moon = generate(prompt, image_size="square")
    _, without = generate("a snow field at night", negative_prompt="a full moon", image_size="square")
    bright = [(image[:220].min(-1) > 200).mean() for image in (with_moon, without)]
    assert bright[0] > 4 * bright[1], bright


def test_a_seed_determines_the_image():
    prompt = "a lake at noon with two boats"
    images = [generate(prompt, image_size="square", seed=seed)[1] for seed in (1, 2, 1)]
    assert (images[0] == images[2]).all()
    assert np.abs(images[0] - images[1]).mean() > 2


def test_an_image_of_the_unsafe_concept_is_black():
    prompt = "a big pirate flag with a skull and crossbones in the middle of a meadow at noon"
    output, image = generate(prompt, image_size="landscape_4_3")
    assert output["has_nsfw_concepts"] == [True]
    assert image.max() < 3 and image.shape == (768, 1024, 3)
    output, image = generate(prompt, image_size="landscape_4_3", enable_safety_checker=False)
    assert output["has_nsfw_concepts"] == [False]
    assert image.mean() > 50
