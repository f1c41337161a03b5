"""fal_client's stream, sync and async."""

import asyncio
import base64
import io

import fal_client
import httpx
import pytest
from PIL import Image

from support import ENDPOINT, check_output, endless, small, steps


def check(events):
    assert steps([log for event in events for log in event.get("logs", [])]) == [1, 2, 3, 4]
    check_output(events[-1])


def test_stream():
    check(list(fal_client.stream(ENDPOINT, small())))


def test_stream_async():
    async def collected():
        return [event async for event in fal_client.stream_async(ENDPOINT, small())]

    check(asyncio.run(collected()))


def test_previews():
    arguments = small(image_size="landscape_4_3", num_inference_steps=40, num_images=3, enable_safety_checker=False)
    events = list(fal_client.stream(ENDPOINT, arguments))
    previews = [event["preview"] for event in events if "preview" in event]
    # A busy machine may have time for only the first.
    assert 1 <= len(previews) <= 8
    for preview in previews:
        head, data = preview.split(",")
        assert head == "data:image/jpeg;base64"
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert (image.format, image.size) == ("JPEG", (256, 192))
        image.load()
    check_output(events[-1], width=1024, height=768)


def test_a_failed_stream_raises():
    events = []
    with pytest.raises(httpx.TransportError):
        for event in fal_client.stream(ENDPOINT, endless()):
            events.append(event)
            if len(events) == 1:
                fal_client.cancel(ENDPOINT, event["request_id"])
    assert events[-1]["error_type"] == "client_cancelled"
