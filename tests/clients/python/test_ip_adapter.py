"""`ip_adapter` with fal_client: images change by the image prompt and its scale, and what cannot be used is a 422."""

import base64
import io
import pathlib

import fal_client
import pytest
import random_ip_adapter
from PIL import Image
from support import ENDPOINT, small

ROOT = pathlib.Path(__file__).resolve().parents[3]
LORA = ROOT / "models" / "mini-lora" / "black-and-white.safetensors"
# Of another model, whose layers have another width.
FOREIGN = ROOT / "tests" / "parity" / "golden" / "ip_adapter" / "published" / "ip-adapter.safetensors"
HOUSE = ROOT / "docs" / "images" / "red-house.jpg"


def generated(ip_adapter):
    """The pixels of a request's image, and the settings in its file."""
    arguments = small(num_inference_steps=6, sync_mode=True, output_format="png", enable_safety_checker=False)
    arguments |= {"ip_adapter": ip_adapter}
    (image,) = fal_client.subscribe(ENDPOINT, arguments)["images"]
    image = Image.open(io.BytesIO(base64.b64decode(image["url"].split(",", 1)[1])))
    return image.tobytes(), image.text


def test_an_image_follows_its_image_prompt_by_the_scale(tmp_path):
    house, grey = fal_client.upload_file(HOUSE), fal_client.encode_image(Image.new("RGB", (40, 30), "grey"), "png")
    named = {"path": "style", "image_encoder_path": "style", "image_url": house, "scale": 1.0}
    (plain, _), (styled, text) = generated(None), generated(named)
    assert styled != plain
    assert {name: value for name, value in text.items() if name.startswith("ip_adapter")} == {
        "ip_adapter": "style", "ip_adapter_encoder": "style", "ip_adapter_scale": "1",
    }
    # Without a scale it does nothing, and the less of it the nearer is the image.
    assert generated(named | {"scale": 0})[0] == plain
    weak = generated(named | {"scale": 0.2})[0]
    assert 0 < difference(weak, plain) < difference(styled, plain)
    assert generated(named | {"image_url": grey})[0] not in (plain, styled)
    # The same file, sent here: its name is not told.
    file = random_ip_adapter.write(tmp_path / "adapter") / "ip-adapter.safetensors"
    uploaded, text = generated(named | {"path": fal_client.upload_file(file)})
    assert uploaded == styled and "ip_adapter" not in text


def difference(one, other):
    """The mean difference of two images' values."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def test_what_cannot_be_used_is_an_error_of_its_place():
    house = fal_client.upload_file(HOUSE)
    whole = {"path": "style", "image_encoder_path": "style", "image_url": house, "scale": 1}
    for changed, field, words in (
        ({"path": fal_client.upload_file(FOREIGN)}, "path", "its tokens are 24 wide"),
        ({"path": fal_client.upload_file(LORA)}, "path", "it is no IP-Adapter of SD3.5"),
        ({"path": fal_client.upload(b"\x80\x02}q\x00.", "application/octet-stream")}, "path", "it is a pickle"),
        ({"image_encoder_path": fal_client.upload_file(FOREIGN)}, "image_encoder_path", "An image encoder is three files"),
        ({"image_url": fal_client.upload_file(LORA)}, "image_url", "the image prompt cannot be used"),
        ({"scale": 5}, "scale", "less than or equal to 4"),
        ({"mask_image_url": house}, "mask_image_url", "is not supported"),
    ):
        with pytest.raises(fal_client.FalClientHTTPError) as error:
            fal_client.subscribe(ENDPOINT, small(ip_adapter=whole | changed))
        assert error.value.status_code == 422
        (problem,) = error.value.response.json()["detail"]
        assert problem["loc"] == ["body", "ip_adapter", field], problem
        assert words in problem["msg"], problem
