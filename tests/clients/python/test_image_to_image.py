"""Image to image with fal_client: an uploaded picture, one inside the request, and what is kept of them."""

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

HOUSE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "pictures" / "red-house.jpg"


def begin(picture):
    """A URL for the picture, either way."""
    return {"uploaded": fal_client.upload_image, "inside": fal_client.encode_image}[picture](Image.open(HOUSE))


def paint(url, **overrides):
    """The result and its first picture, `[H, W, 3]` in 0..255."""
    output = fal_client.subscribe(MODEL, {"prompt": "a red house", "image_url": url, "seed": 7} | overrides)
    content = httpx.get(output["images"][0]["url"]).content
    return output, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)


@pytest.mark.parametrize("picture", ["uploaded", "inside"])
def test_little_strength_keeps_the_picture(picture):
    house = np.asarray(Image.open(HOUSE).convert("RGB")).astype(float)
    url = begin(picture)
    _, kept = paint(url, strength=0.05)
    assert kept.shape == house.shape, "the size of the picture"
    _, changed = paint(url, strength=1, prompt="a snow field at night, stars")
    near, far = (np.abs(painted - house).mean() for painted in (kept, changed))
    assert near < 12 and far > 40, f"off by {near:.1f} and {far:.1f}"
    body = wire.calls("POST", f"{MODEL}$")[0]["body"]
    assert body["image_url"].startswith("data:image/jpeg;base64," if picture == "inside" else "http://")


def test_another_size_is_painted_where_it_is_asked_for():
    output = fal_client.run(MODEL, small(image_url=begin("uploaded"), strength="0.5"))
    assert (output["images"][0]["width"], output["images"][0]["height"]) == (128, 96)


def test_what_is_no_picture_is_an_error_of_its_field():
    url = fal_client.upload(b"no picture", "image/png")
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        fal_client.subscribe(MODEL, small(image_url=url))
    assert error.value.status_code == 422
    (problem,) = error.value.response.json()["detail"]
    assert problem["loc"] == ["body", "image_url"]
    assert problem["type"] == "image_load_error"
