"""requests and httpx, which have their own trusted certificates."""

import json
import sys

import httpx
import requests

url, arguments = f"https://fal.run/{sys.argv[1]}", json.loads(sys.argv[2])
key = {"Authorization": "Key of:mine"}
for answer in (requests.post(url, json=arguments, headers=key), httpx.post(url, json=arguments, headers=key, timeout=60)):
    image = answer.json()["images"][0]["url"]
    assert requests.get(image).headers["content-type"] == "image/jpeg"
    assert httpx.get(image).content[:2] == b"\xff\xd8"
print("OK")
