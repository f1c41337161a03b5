"""Requests of clients that are not installed here, sent byte for byte as those clients send them, and responses parsed
as strictly as those clients parse them: Java 0.7.1, Swift 0.1.0, Dart 0.3.0, LiteLLM 1.110."""

import json
import os
import urllib.parse

import httpx
import pytest

from support import ENDPOINT, check_output, small

BASE = os.environ["LATENTD_URL"]
QUEUE = f"https://queue.fal.run/{ENDPOINT}"


JSON = "application/json"


def client(agent, content_type=JSON):
    """A client that sends every call to the proxy route, with fal's URL in a header."""
    common = [("authorization", "Key local:test"), ("user-agent", agent), ("content-type", content_type), ("accept", JSON)]

    def call(method, target, body=None, **more):
        headers = [*common, ("x-fal-target-url", target), *more.items()]
        content = None if body is None else json.dumps(body)
        return httpx.request(method, f"{BASE}/api/fal/proxy", headers=headers, content=content, timeout=60)

    return call


java = client("okhttp/4.12.0")
swift = client("fal.ai/swift-client 0.1.0 - Version 15.0 (Build 24A335)")
dart = client("Dart/3.5 (dart:io)", "application/json; charset=utf-8")


def exact(value, **types):
    """Checks that each key a typed client needs has exactly its type."""
    for key, kind in types.items():
        assert type(value[key]) is kind, f"{key} of {value}"


def events(response):
    """The data of all events of a stream."""
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = response.text.split("\n\n")
    return [json.loads(block.removeprefix("data:")) for block in blocks if block.startswith("data:")]


def java_log(log):
    exact(log, message=str, timestamp=str, labels=dict)
    exact(log["labels"], level=str)


def test_java_subscribes_by_the_status_stream_only():
    """It sends two Accept headers, JSON first, and requires the last event to be COMPLETED."""
    submitted = java("POST", QUEUE, small()).json()
    exact(submitted, status=str, request_id=str, response_url=str, status_url=str, cancel_url=str)
    url = f"{QUEUE}/requests/{submitted['request_id']}"
    seen = events(java("GET", f"{url}/status/stream?logs=1", Accept="text/event-stream"))
    for status in seen:
        exact(status, status=str, request_id=str, response_url=str, status_url=str, cancel_url=str)
        if status["status"] == "IN_QUEUE":
            exact(status, queue_position=int)
        for log in status["logs"]:
            java_log(log)
    assert seen[-1]["status"] == "COMPLETED"
    assert any(status["logs"] for status in seen)
    result = java("GET", url)
    assert result.headers["x-fal-request-id"] == submitted["request_id"]
    check_output(result.json())


def test_java_omits_logs_and_sends_a_webhook_as_a_query():
    hook = urllib.parse.quote("http://127.0.0.1:9/hook", safe="")
    submitted = java("POST", f"{QUEUE}?fal_webhook={hook}", small()).json()
    status = java("GET", f"{QUEUE}/requests/{submitted['request_id']}/status")
    exact(status.json(), status=str, logs=list)


def test_swift_polls_until_completed():
    """Its query is lost behind a proxy: it never requests logs, and still requires the `logs` key."""
    submitted = swift("POST", QUEUE, small()).json()
    exact(submitted, status=str, request_id=str, response_url=str, queue_position=int)
    url = f"{QUEUE}/requests/{submitted['request_id']}"
    while True:
        status = swift("GET", f"{url}/status").json()
        # An enum with associated values: each status decodes its own fields.
        assert status["status"] in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
        if status["status"] == "IN_QUEUE":
            exact(status, queue_position=int, response_url=str)
        else:
            exact(status, logs=list)
        if status["status"] == "COMPLETED":
            exact(status, response_url=str)
            break
    check_output(swift("GET", url).json())
    direct = httpx.get(submitted["status_url"], params={"logs": "true"}).json()
    for log in direct["logs"]:
        exact(log, message=str, timestamp=str, labels=dict)
        assert log["labels"]["level"] in ("STDERR", "STDOUT", "ERROR", "INFO", "WARN", "DEBUG")
    assert direct["logs"]


def test_swift_ignores_status_codes():
    """It parses an error as the output, and fails because a key is missing."""
    refused = swift("POST", f"https://fal.run/{ENDPOINT}", {})
    assert "images" not in refused.json()


def test_swift_runs_and_fetches_a_token_with_its_own_lifetime():
    check_output(swift("POST", f"https://fal.run/{ENDPOINT}", small()).json())
    body = {"allowed_apps": ["stable-diffusion-v35-large"], "token_expiration": 300}
    token = swift("POST", "https://rest.alpha.fal.ai/tokens/", body)
    assert token.status_code in (200, 201)
    assert isinstance(token.json(), str)


def test_dart_uploads():
    body = {"file_name": "a.txt", "content_type": "text/plain"}
    ticket = dart("POST", "https://rest.alpha.fal.ai/storage/upload/initiate", body).json()
    exact(ticket, upload_url=str, file_url=str)
    assert httpx.put(ticket["upload_url"], content=b"words", headers={"Content-Type": "text/plain"}).is_success
    assert httpx.get(ticket["file_url"]).content == b"words"


def test_dart_subscribes():
    submitted = dart("POST", QUEUE, small()).json()
    exact(submitted, request_id=str)
    url = f"{QUEUE}/requests/{submitted['request_id']}"
    while (status := dart("GET", f"{url}/status?logs=1").json())["status"] != "COMPLETED":
        exact(status, status=str, response_url=str)
        if status["status"] == "IN_QUEUE":
            exact(status, queue_position=int)
    for log in status["logs"]:
        exact(log, message=str, timestamp=str)
    check_output(dart("GET", url).json())


def test_dart_parses_an_error_as_an_object():
    """It looks for keys that fal never sends, so its user sees only its own error."""
    refused = dart("POST", f"https://fal.run/{ENDPOINT}", {"num_images": 9})
    assert refused.status_code == 422
    assert type(refused.json()) is dict


def test_litellm_posts_what_it_maps_from_openai():
    """`image_generation(model="fal_ai/fal-ai/stable-diffusion-v35-large", size="512x512", n=2, api_base=…)`."""
    body = {"prompt": "a lighthouse", "num_images": 2, "image_size": "square", "output_format": "jpeg"}
    body |= {"num_inference_steps": 2, "seed": 7}
    headers = {"Authorization": "Key local:test", "Content-Type": "application/json"}
    response = httpx.post(f"{BASE}/{ENDPOINT}", json=body, headers=headers, timeout=60)
    assert response.status_code == 200
    output = response.json()
    exact(output, images=list, seed=int, timings=dict, has_nsfw_concepts=list)
    for image in output["images"]:
        exact(image, url=str, width=int, height=int, content_type=str)
    check_output(output, width=512, height=512)
