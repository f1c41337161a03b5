"""Helpers of the tests: inputs, and a reader of the generated images."""

import re
import struct

import httpx

ENDPOINT = "fal-ai/stable-diffusion-v35-large"


def small(**overrides):
    """Arguments of a request that takes about a second."""
    size = {"width": 128, "height": 96}
    return {"prompt": "a lighthouse", "image_size": size, "num_inference_steps": 4, "seed": 7} | overrides


def medium(**overrides):
    """Arguments of a request that takes some seconds: long enough to observe or interrupt it."""
    return small(image_size="square_hd", num_inference_steps=30) | overrides


def endless(**overrides):
    """Arguments of a request that runs long enough for a test to cancel it."""
    return small(image_size="square_hd", num_inference_steps=50, num_images=4) | overrides


def check_output(output, *, width=128, height=96):
    """Downloads every image of a result, checks it against its entry, and returns the files."""
    assert output["prompt"] == "a lighthouse"
    assert output["seed"] == 7
    assert output["has_nsfw_concepts"] == [False] * len(output["images"])
    files = []
    for image in output["images"]:
        response = httpx.get(image["url"])
        assert response.status_code == 200
        assert response.headers["content-type"] == image["content_type"] == "image/jpeg"
        assert jpeg_size(response.content) == (image["width"], image["height"]) == (width, height)
        files.append(response.content)
    return files


def jpeg_size(data):
    """Width and height from the frame header of a complete JPEG."""
    assert data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9"
    at = 2
    while data[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    height, width = struct.unpack_from(">HH", data, at + 5)
    return width, height


def steps(logs):
    """The step numbers of a request's log lines, in order: `step 3/28` is 3."""
    found = (re.search(r"\bstep (\d+)/\d+\b", log["message"]) for log in logs)
    return [int(match[1]) for match in found if match]
