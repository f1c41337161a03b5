"""huggingface_hub's InferenceClient with fal as its provider: `fal.run` for a prompt, the queue for an image."""

import io

import huggingface_hub.inference._providers as providers
import pytest
import wire
from conftest import BASE
from huggingface_hub import InferenceClient
from huggingface_hub.hf_api import InferenceProviderMapping
from huggingface_hub.inference._providers._common import HARDCODED_MODEL_INFERENCE_MAPPING
from PIL import Image

from support import ENDPOINT

MODEL = "stabilityai/stable-diffusion-3.5-large"
SIZE = {"width": 128, "height": 96}


@pytest.fixture
def client(monkeypatch):
    """A client for this server, with the mapping from model to endpoint that the hub would return."""
    mapping = InferenceProviderMapping(
        provider="fal-ai", hf_model_id=MODEL, providerId=ENDPOINT, status="live", task="text-to-image"
    )
    monkeypatch.setitem(HARDCODED_MODEL_INFERENCE_MAPPING["fal-ai"], MODEL, mapping)
    tasks = providers.PROVIDERS["fal-ai"]
    monkeypatch.setattr(tasks["text-to-image"], "base_url", BASE)
    monkeypatch.setattr(tasks["image-to-image"], "base_url", f"{BASE}/queue")
    return InferenceClient(provider="fal-ai", api_key="local:test")


def test_text_to_image(client):
    image = client.text_to_image("a lighthouse", model=MODEL, num_inference_steps=4, seed=7, **SIZE)
    assert image.size == (128, 96)
    call = wire.call("POST")
    assert call["url"] == f"/{ENDPOINT}"
    assert call["body"] == {"prompt": "a lighthouse", "num_inference_steps": 4, "seed": 7, "image_size": SIZE}
    wire.sent(call, authorization="Key local:test")


def test_a_task_of_the_queue_builds_its_urls_from_the_response_url(client):
    """The model ignores the image; the test checks the URLs of the calls."""
    given = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(given, "JPEG")
    parameters = {"num_inference_steps": 4, "seed": 7, "target_size": SIZE}
    image = client.image_to_image(given.getvalue(), prompt="a lighthouse", model=MODEL, **parameters)
    assert image.size == (128, 96)
    call = wire.call("POST")
    assert call["url"] == f"/queue/{ENDPOINT}"
    assert call["body"]["image_url"].startswith("data:image/jpeg;base64,")
    asked = [call["url"] for call in wire.calls("GET", "/requests/")]
    assert asked[-1].startswith(f"/queue/{ENDPOINT}/requests/")
    assert set(asked[:-1]) == {f"{asked[-1]}/status"}
