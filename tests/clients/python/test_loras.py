"""`loras` with fal_client: an uploaded adapter and one that the operator named change the image, a bad one is a 422."""

import base64
import io
import pathlib

import fal_client
import numpy as np
import pytest
import wire
from PIL import Image
from support import ENDPOINT, small

LORA = pathlib.Path(__file__).resolve().parents[3] / "models" / "mini-lora" / "black-and-white.safetensors"


def colour(loras):
    """The mean difference of the strongest and the weakest channel of an image with these adapters."""
    input = small(prompt="a red house at noon", image_size="square", num_inference_steps=12, sync_mode=True, loras=loras)
    output = fal_client.subscribe(ENDPOINT, input)
    image = Image.open(io.BytesIO(base64.b64decode(output["images"][0]["url"].split(",", 1)[1])))
    pixels = np.asarray(image.convert("RGB")).astype(float)
    return (pixels.max(2) - pixels.min(2)).mean()


def test_an_uploaded_and_a_named_adapter_change_the_image():
    plain = colour([])
    uploaded = colour([{"path": fal_client.upload_file(LORA)}])
    named = colour([{"path": "black-and-white", "scale": 1}])
    assert uploaded == named < 0.5 * plain
    assert named < colour([{"path": "black-and-white", "scale": 0.3}]) < plain


def test_an_adapter_that_cannot_be_used_is_an_error_of_its_place():
    url = fal_client.upload(b"\x80\x02}q\x00.", "application/octet-stream")
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        fal_client.subscribe(ENDPOINT, small(loras=[{"path": "black-and-white"}, {"path": url}]))
    assert error.value.status_code == 422
    (problem,) = error.value.response.json()["detail"]
    assert problem["loc"] == ["body", "loras", 1, "path"] and problem["type"] == "value_error"
    path = wire.calls("POST", f"{ENDPOINT}$")[0]["body"]["loras"][1]["path"]
    assert path in problem["msg"] and "it is a pickle" in problem["msg"]
