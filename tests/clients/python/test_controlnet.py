"""`controlnet` with fal_client: images follow the control image, by scale and time, and a bad ControlNet is a 422."""

import base64
import io
import pathlib
import struct
import sys

import fal_client
import numpy as np
import pytest
import wire
from PIL import Image, ImageOps
from support import ENDPOINT, small

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "models" / "train"))
from control_image import lines  # noqa: E402

NET = ROOT / "models" / "mini-controlnet" / "diffusion_pytorch_model.safetensors"
# A house on the right, the sun on the left.
EDGES = Image.open(NET.with_name("house-edges.png"))
# Of another model, whose layers have another width.
FOREIGN = ROOT / "tests" / "parity" / "golden" / "controlnet" / "single" / "model" / NET.name
LORA = ROOT / "models" / "mini-lora" / "black-and-white.safetensors"


def generated(controlnet):
    """The image of a prompt that says nothing of its layout."""
    size = {"width": EDGES.width, "height": EDGES.height}
    input = small(prompt="a house at noon", image_size=size, num_inference_steps=20, sync_mode=True, output_format="png")
    output = fal_client.subscribe(ENDPOINT, input | {"controlnet": controlnet})
    return Image.open(io.BytesIO(base64.b64decode(output["images"][0]["url"].split(",", 1)[1])))


def drawn(image, control):
    """The share of a control image's lines, without those that its mirror image has too, that an image has."""
    here, mirrored = (np.asarray(one.convert("L")) > 127 for one in (control, ImageOps.mirror(control)))
    asked = here & ~mirrored
    return np.count_nonzero(lines(image) & asked) / np.count_nonzero(asked)


def test_an_image_has_the_edges_of_its_control_image():
    mirrored = ImageOps.mirror(EDGES)
    edges, turned = (fal_client.upload_image(control, "png") for control in (EDGES, mirrored))
    named = {"path": "edges", "control_image_url": edges}
    plain, followed = generated(None), generated(named)
    uploaded = generated(named | {"path": fal_client.upload_file(NET)})
    assert uploaded.tobytes() == followed.tobytes()
    # Without strength or without time the ControlNet does nothing.
    for nothing in ({"conditioning_scale": 0}, {"start_percentage": 1}, {"end_percentage": 0}):
        assert generated(named | nothing).tobytes() == plain.tobytes(), nothing
    other = generated(named | {"control_image_url": turned})
    for image in (plain, other):
        assert drawn(followed, EDGES) > 2 * drawn(image, EDGES)
    for image in (plain, followed):
        assert drawn(other, mirrored) > 2 * drawn(image, mirrored)


def test_a_controlnet_that_cannot_be_used_is_an_error_of_its_place():
    edges = fal_client.upload_image(EDGES, "png")
    whole = NET.read_bytes()
    for content, words in (
        (FOREIGN.read_bytes(), "it is no ControlNet of SD3.5: "),
        (LORA.read_bytes(), "it is no ControlNet of SD3.5: "),
        (b"\x80\x02}q\x00.", "it is a pickle"),
        (whole[:-1000], ""),
        (struct.pack("<Q", 50 << 30) + whole[8:], ""),
        (b"<!doctype html>", ""),
    ):
        url = fal_client.upload(content, "application/octet-stream")
        with pytest.raises(fal_client.FalClientHTTPError) as error:
            fal_client.subscribe(ENDPOINT, small(controlnet={"path": url, "control_image_url": edges}))
        assert error.value.status_code == 422
        (problem,) = error.value.response.json()["detail"]
        assert problem["loc"] == ["body", "controlnet", "path"] and problem["type"] == "value_error"
        path = wire.calls("POST", f"{ENDPOINT}$")[-1]["body"]["controlnet"]["path"]
        assert path in problem["msg"] and words in problem["msg"], problem["msg"]
