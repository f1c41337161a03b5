"""The settings in image files, read by Pillow: of the server, of `latentd generate`, and of a server that leaves them out."""

import io
import os
import subprocess

import httpx
import pytest
from PIL import Image
from processes import own_server
from support import ENDPOINT, small

BASE = os.environ["LATENTD_URL"]
PROMPT = "a <lake> & a boat \u5ead\U0001f98a"
FORMATS = ("png", "jpeg", "webp")


def settings(content):
    """The settings in a file, by their names."""
    image = Image.open(io.BytesIO(content))
    if image.format == "PNG":
        return dict(image.text)
    description = image.getxmp().get("xmpmeta", {}).get("RDF", {}).get("Description", {})
    return {name: value for name, value in description.items() if name != "about"}


def generated(base, output_format):
    """A file of OpenAI's route, which knows every format."""
    body = {"prompt": PROMPT, "negative_prompt": "rain", "size": "128x96", "seed": 7, "num_inference_steps": 2}
    body |= {"output_format": output_format, "response_format": "url"}
    response = httpx.post(f"{base}/v1/images/generations", json=body, timeout=60).json()
    return httpx.get(response["data"][0]["url"]).content


@pytest.mark.parametrize("output_format", FORMATS)
def test_files_of_the_server(output_format):
    found = settings(generated(BASE, output_format))
    assert found.pop("Software").startswith("latentd ")
    assert found == {
        "prompt": PROMPT, "negative_prompt": "rain", "seed": "7", "steps": "2", "guidance": "3.5", "model": "mini",
    }


def test_the_default_file_of_fals_endpoint():
    url = httpx.post(f"{BASE}/{ENDPOINT}", json=small(), timeout=60).json()["images"][0]["url"]
    assert settings(httpx.get(url).content)["prompt"] == "a lighthouse"


@pytest.mark.parametrize("output_format", FORMATS)
def test_files_of_generate(output_format, tmp_path):
    file = tmp_path / f"image.{output_format}"
    flags = ["--width", "128", "--height", "96", "--steps", "2", "--seed", "7", "-o", file]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LATENTD_")}
    subprocess.run([os.environ["LATENTD_BIN"], "generate", PROMPT, *flags], check=True, env=environment)
    found = settings(file.read_bytes())
    assert (found["prompt"], found["seed"], found["model"]) == (PROMPT, "7", "mini")
    assert Image.open(file).size == (128, 96)


def test_a_server_that_leaves_them_out(tmp_path):
    with own_server(tmp_path, LATENTD_NO_METADATA="true") as url:
        for output_format in FORMATS:
            content = generated(url, output_format)
            assert settings(content) == {} and b"lake" not in content
