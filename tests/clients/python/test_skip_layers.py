"""Skip-layer guidance with fal_client: it changes the image as `latentd generate` does, and a layer that is none is a 422."""

import base64
import io
import os
import subprocess

import fal_client
import pytest
from PIL import Image
from support import ENDPOINT, small

PROMPT = "a red house on the left of a lake at sunset, two boats"
STEPS = 10
ALL = {"skip_guidance_layers": [1, 2], "skip_layer_guidance_scale": 2.5, "skip_layer_guidance_stop": 0.6}


def generated(**overrides):
    """The pixels of a request's image."""
    arguments = small(prompt=PROMPT, num_inference_steps=STEPS, sync_mode=True, output_format="png")
    arguments |= {"enable_safety_checker": False} | overrides
    (image,) = fal_client.subscribe(ENDPOINT, arguments)["images"]
    return Image.open(io.BytesIO(base64.b64decode(image["url"].split(",", 1)[1]))).tobytes()


def test_an_image_is_led_away_from_the_branch_without_layers(tmp_path):
    plain, led = generated(), generated(**ALL)
    assert led != plain
    assert generated(**ALL | {"skip_guidance_layers": [2]}) != led
    # Without strength or without time it does nothing.
    for nothing in ({"skip_layer_guidance_scale": 0}, {"skip_layer_guidance_start": 1}, {"skip_guidance_layers": []}):
        assert generated(**ALL | nothing) == plain, nothing

    file = tmp_path / "image.png"
    flags = ["--width", "128", "--height", "96", "--steps", str(STEPS), "--seed", "7", "-o", file]
    flags += ["--skip-layers", "1,2", "--skip-scale", "2.5", "--skip-stop", "0.6", "--safety-checker", "none"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LATENTD_")}
    subprocess.run([os.environ["LATENTD_BIN"], "generate", PROMPT, *flags], check=True, env=environment)
    image = Image.open(file)
    assert image.tobytes() == led
    assert (image.text["skip_layers"], image.text["skip_layers_scale"]) == ("1,2", "2.5")


def test_what_cannot_be_done_is_an_error_of_its_place():
    for arguments, place in (
        ({"skip_guidance_layers": [0, 4]}, ["skip_guidance_layers", 1]),
        ({"skip_guidance_layers": [0], "guidance_scale": 1}, ["skip_guidance_layers"]),
        ({"skip_layer_guidance_stop": 1.5}, ["skip_layer_guidance_stop"]),
    ):
        with pytest.raises(fal_client.FalClientHTTPError) as error:
            fal_client.subscribe(ENDPOINT, small(**arguments))
        assert error.value.status_code == 422
        (problem,) = error.value.response.json()["detail"]
        assert problem["loc"] == ["body", *place], problem
