"""OpenAI's own client: models, images in every form, edits, streams, and an exception for every kind of error."""

import base64
import io
import os
import pathlib

import httpx
import numpy as np
import openai
import pytest
import wire
from openai import OpenAI
from PIL import Image
from processes import own_server
from support import ENDPOINT

BASE = os.environ["LATENTD_URL"]
HOUSE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "images" / "red-house.jpg"
STEPS = {"num_inference_steps": 4}
# Of the built-in model some images of a few steps are found unsafe, so every test has a seed whose image is not.
SEEDED = STEPS | {"seed": 1}
# The only thing that the safety checker of the built-in model finds unsafe.
UNSAFE = "a big pirate flag with a skull and crossbones in the middle of a meadow at noon"
UNSAFE_SEED = {"seed": 11, "num_inference_steps": 20}


def client(base=BASE, **options):
    return OpenAI(base_url=f"{base}/v1", **{"api_key": "local:key", "max_retries": 0} | options)


def small(**overrides):
    """Arguments of a call that takes about a second."""
    return {"prompt": "a lighthouse", "size": "128x96", "extra_body": STEPS | {"seed": 7}} | overrides


def image_of(data):
    return Image.open(io.BytesIO(base64.b64decode(data.b64_json)))


def test_models():
    (mini,) = client().models.list().data
    assert (mini.id, mini.object, mini.owned_by) == ("mini", "model", "latentd")
    for name in ("mini", "stable-diffusion-3.5-large", "stabilityai/stable-diffusion-3.5-large", ENDPOINT):
        assert client().models.retrieve(name).id == "mini"
    with pytest.raises(openai.NotFoundError) as error:
        client().models.retrieve("gpt-image-2")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_an_image_in_base64_and_the_same_from_fal():
    response = client().images.generate(**small(n=2, response_format="b64_json"))
    assert [image_of(image).size for image in response.data] == [(128, 96)] * 2
    assert image_of(response.data[0]).format == "PNG"
    assert (response.size, response.output_format, response.quality) == ("128x96", "png", "medium")
    assert (response.background, response.seed, response.data[0].url) == ("opaque", 7, None)
    assert response._request_id
    request = {"prompt": "a lighthouse", "image_size": {"width": 128, "height": 96}, "seed": 7, "num_images": 2} | STEPS
    images = httpx.post(f"{BASE}/{ENDPOINT}", json=request | {"output_format": "png"}, timeout=60).json()["images"]
    of_fal = [Image.open(io.BytesIO(httpx.get(image["url"]).content)) for image in images]
    assert [image_of(image).tobytes() for image in response.data] == [image.tobytes() for image in of_fal]


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_an_image_by_its_url(output_format):
    response = client().images.generate(**small(response_format="url", output_format=output_format))
    assert response.data[0].b64_json is None
    file = httpx.get(response.data[0].url)
    assert file.headers["content-type"] == f"image/{output_format}"
    image = Image.open(io.BytesIO(file.content))
    assert (image.format, image.size) == (output_format.upper(), (128, 96))


def test_every_field_at_once():
    response = client().images.generate(
        prompt="a lighthouse", model="mini", size="auto", quality="low", style="vivid", background="auto",
        moderation="low", user="somebody", output_format="webp", output_compression=50, n=1, stream=False,
        extra_body={"negative_prompt": "rain", "guidance_scale": 2, "enable_safety_checker": False, "seed": 1},
    )
    image = image_of(response.data[0])
    assert (image.format, image.size, response.quality) == ("WEBP", (1024, 1024), "low")
    assert response.safety_identifier == "somebody"


def test_an_edit_of_a_file():
    with open(HOUSE, "rb") as file:
        first = client().images.edit(image=file, prompt="a house at night", size="128x96", extra_body=SEEDED)
    again = client().images.edit(
        image=[("house.png", base64.b64decode(first.data[0].b64_json), "image/png")],
        prompt="a house at night", extra_body=SEEDED | {"strength": 0.3}, output_format="jpeg",
    )
    assert image_of(first.data[0]).size == image_of(again.data[0]).size == (128, 96)
    assert image_of(again.data[0]).format == "JPEG"
    sent = wire.calls("POST", "/v1/images/edits$")
    assert all(call["headers"]["content-type"].startswith("multipart/form-data") for call in sent)


def test_an_edit_of_what_is_transparent_in_a_mask():
    house = Image.open(HOUSE).convert("RGB")
    mask = Image.new("RGBA", (64, 48), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (32, 0, 64, 48))
    file = io.BytesIO()
    mask.save(file, "PNG")
    with open(HOUSE, "rb") as image:
        response = client().images.edit(
            image=image, mask=("mask.png", file.getvalue()), prompt="a snow field at night, stars",
            extra_body={"num_inference_steps": 8, "seed": 7, "strength": 1},
        )
    edited = image_of(response.data[0]).convert("RGB")
    assert edited.size == house.size
    difference = np.abs(np.asarray(edited).astype(float) - np.asarray(house)).mean(axis=(0, 2))
    half = len(difference) // 2
    kept, anew = difference[: half - 64].mean(), difference[half + 64 :].mean()
    assert kept < 12 and anew > 30, f"off by {kept:.1f} where it is opaque and {anew:.1f} where it is transparent"


def test_a_stream_of_a_generation_and_of_an_edit():
    events = list(client().images.generate(**small(size="512x512", stream=True, partial_images=2, n=2)))
    kinds = [event.type for event in events]
    assert kinds[-2:] == ["image_generation.completed"] * 2
    assert kinds[:-2] == ["image_generation.partial_image"] * len(kinds[:-2]) and len(kinds) <= 4
    for event in events:
        assert image_of(event).format == event.output_format.upper()
    assert (events[-1].size, events[-1].usage.total_tokens) == ("512x512", 0)
    with open(HOUSE, "rb") as file:
        events = list(client().images.edit(image=file, prompt="night", size="128x96", stream=True, extra_body=SEEDED))
    assert [event.type for event in events] == ["image_edit.completed"]


def test_a_stream_that_fails_raises():
    with pytest.raises(openai.APIError) as error:
        list(client().images.generate(prompt=UNSAFE, size="1024x768", stream=True, extra_body=UNSAFE_SEED))
    assert error.value.code == "content_policy_violation"


def test_refused_inputs():
    for arguments, param, code in [
        ({"n": 5}, "n", "invalid_value"),
        ({"size": "99999x16"}, "size", "invalid_value"),
        ({"quality": "best"}, "quality", "invalid_value"),
        ({"background": "transparent"}, "background", "invalid_value"),
        ({"extra_body": {"no_such": 1}}, "no_such", "unknown_parameter"),
        ({"extra_body": {"prompt": None}}, "prompt", "missing_required_parameter"),
    ]:
        with pytest.raises(openai.BadRequestError) as error:
            client().images.generate(**small() | arguments)
        assert (error.value.param, error.value.code) == (param, code)
        assert error.value.type == "invalid_request_error" and param in error.value.message
    with open(HOUSE, "rb") as file, pytest.raises(openai.BadRequestError) as error:
        client().images.edit(image=file, mask=("mask.png", b"x"), prompt="x", extra_body=STEPS)
    assert (error.value.param, error.value.code) == ("mask", "invalid_image")
    with pytest.raises(openai.BadRequestError) as error:
        client().images.edit(image=("a.png", b"no image"), prompt="x", extra_body=STEPS)
    assert (error.value.param, error.value.code) == ("image", "invalid_image")
    image = HOUSE.read_bytes()
    for arguments, param, code in [
        ({"image": [("a.jpg", image), ("b.jpg", image)]}, "image", "invalid_value"),
        ({"image": ("a.jpg", image), "svg": {"model": "x"}}, "svg[model]", "unsupported_parameter"),
    ]:
        with pytest.raises(openai.BadRequestError) as error:
            client().images.edit(prompt="x", **arguments)
        assert (error.value.param, error.value.code) == (param, code)


def test_an_unsafe_image_is_refused():
    with pytest.raises(openai.BadRequestError) as error:
        client().images.generate(prompt=UNSAFE, size="1024x768", extra_body=UNSAFE_SEED)
    assert error.value.code == "content_policy_violation"


def test_keys_limits_and_a_server_that_is_full(tmp_path):
    with own_server(tmp_path, "--api-key", "team:secret", "--max-queue", "0") as url:
        with pytest.raises(openai.AuthenticationError) as error:
            client(url, api_key="team:wrong").images.generate(**small())
        assert error.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            client(url, api_key="team:wrong").models.list()
        assert client(url, api_key="team:secret").models.list().data
        with pytest.raises(openai.InternalServerError) as error:
            client(url, api_key="team:secret").images.generate(**small())
        assert (error.value.status_code, error.value.code) == (503, "queue_full")
        assert error.value.response.headers["retry-after"] == "5"


def test_a_client_that_stops_waiting_cancels_its_request():
    with pytest.raises(openai.APITimeoutError):
        client(timeout=1.0).images.generate(prompt="a lighthouse", size="1536x1536", n=4, quality="max")
    # The worker is free again at once: with the four images before it, this would take a minute.
    assert client(timeout=30.0).images.generate(**small()).data
