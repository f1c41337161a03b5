"""Image to image with fal_client: an uploaded initial image, one inside the request, and the effect of the strength."""

import io
import pathlib

import fal_client
import httpx
import numpy as np
import pytest
import wire
from PIL import Image
from support import ENDPOINT, small

MODEL = f"{ENDPOINT}/image-to-image"

HOUSE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "images" / "red-house.jpg"


def url_of(image):
    """A URL of the initial image: of an upload, or a data URI."""
    return {"uploaded": fal_client.upload_image, "inside": fal_client.encode_image}[image](Image.open(HOUSE))


def generate(url, **overrides):
    """The result and its first image, `[H, W, 3]` in 0..255."""
    output = fal_client.subscribe(MODEL, {"prompt": "a red house", "image_url": url, "seed": 7} | overrides)
    content = httpx.get(output["images"][0]["url"]).content
    return output, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)


@pytest.mark.parametrize("image", ["uploaded", "inside"])
def test_little_strength_keeps_the_image(image):
    house = np.asarray(Image.open(HOUSE).convert("RGB")).astype(float)
    url = url_of(image)
    _, kept = generate(url, strength=0.05)
    assert kept.shape == house.shape, "the size of the image"
    _, changed = generate(url, strength=1, prompt="a snow field at night, stars")
    near, far = (np.abs(generated - house).mean() for generated in (kept, changed))
    assert near < 12 and far > 40, f"off by {near:.1f} and {far:.1f}"
    body = wire.calls("POST", f"{MODEL}$")[0]["body"]
    assert body["image_url"].startswith("data:image/jpeg;base64," if image == "inside" else "http://")


def test_image_size_overrides_the_size_of_the_initial_image():
    output = fal_client.run(MODEL, small(image_url=url_of("uploaded"), strength="0.5"))
    assert (output["images"][0]["width"], output["images"][0]["height"]) == (128, 96)


def test_an_unreadable_image_is_an_error_of_its_field():
    url = fal_client.upload(b"not an image", "image/png")
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        fal_client.subscribe(MODEL, small(image_url=url))
    assert error.value.status_code == 422
    (problem,) = error.value.response.json()["detail"]
    assert problem["loc"] == ["body", "image_url"]
    assert problem["type"] == "image_load_error"


def test_a_mask_keeps_a_part_of_the_image():
    house = Image.open(HOUSE).convert("RGB")
    mask = Image.new("L", (64, 48), 0)
    mask.paste(255, (32, 0, 64, 48))
    output = fal_client.subscribe(
        f"{ENDPOINT}/inpaint",
        {
            "prompt": "a snow field at night, stars",
            "image_url": fal_client.upload_image(house),
            "mask_image_url": fal_client.encode_image(mask, format="png"),
            "strength": 1,
            "seed": 7,
        },
    )
    content = httpx.get(output["images"][0]["url"]).content
    generated = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)
    difference = np.abs(generated - np.asarray(house).astype(float)).mean(axis=(0, 2))
    half = len(difference) // 2
    kept, anew = difference[: half - 64].mean(), difference[half + 64 :].mean()
    assert kept < 12 and anew > 30, f"off by {kept:.1f} where it is kept and {anew:.1f} where it is generated"


def test_a_missing_mask_is_an_error_of_its_field():
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        fal_client.subscribe(f"{ENDPOINT}/inpaint", small(image_url=url_of("inside")))
    assert error.value.status_code == 422
    assert error.value.response.json()["detail"][0]["loc"] == ["body", "mask_image_url"]
