"""A program with huggingface_hub's InferenceClient: nothing in it names this server. Prints its images' sizes."""

import io
import json
import os

from huggingface_hub import InferenceClient
from huggingface_hub.hf_api import InferenceProviderMapping
from huggingface_hub.inference._providers._common import HARDCODED_MODEL_INFERENCE_MAPPING
from PIL import Image

MODEL = "stabilityai/stable-diffusion-3.5-large"
ENDPOINT = "fal-ai/stable-diffusion-v35-large"
SIZE = {"width": 128, "height": 96}

# The mapping that the hub would return for the model.
mapping = InferenceProviderMapping(
    provider="fal-ai", hf_model_id=MODEL, providerId=ENDPOINT, status="live", task="text-to-image"
)
HARDCODED_MODEL_INFERENCE_MAPPING["fal-ai"][MODEL] = mapping
client = InferenceClient(provider="fal-ai", api_key=os.environ["FAL_KEY"])
ran = client.text_to_image("a lighthouse", model=MODEL, num_inference_steps=4, seed=7, **SIZE)
given = io.BytesIO()
Image.new("RGB", (8, 6), "red").save(given, "JPEG")
queued = client.image_to_image(
    given.getvalue(), prompt="a lighthouse", model=MODEL, num_inference_steps=4, seed=7, target_size=SIZE
)
print(json.dumps([ran.size, queued.size]))
