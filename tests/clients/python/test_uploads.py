"""fal_client's uploads: the URL serves the bytes that were sent."""

import io
import json
import os

import fal_client
import httpx
import pytest
import wire
from PIL import Image

PLAIN = b"a few words\n"


def fetched(url):
    """Media type and content of the file, once its headers are seen to keep a browser from running untrusted content."""
    response = httpx.get(url)
    assert response.status_code == 200
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    return response.headers["content-type"], response.content


LIFE = '{"expiration_duration_seconds": 3600}'


def test_bytes():
    lifecycle = fal_client.StorageSettings(expires_in="1h")
    client = fal_client.SyncClient()
    url = client.upload(PLAIN, "text/plain", file_name="../../a b.txt", lifecycle=lifecycle)
    assert fetched(url) == ("text/plain", PLAIN)
    token, upload = wire.calls("POST")
    assert token["url"] == "/storage/auth/token?storage_type=fal-cdn-v3"
    assert token["body"] == {}
    answer = json.loads(token["answer"])
    assert upload["url"] == "/files/upload"
    wire.sent(
        upload,
        authorization=f"{answer['token_type']} {answer['token']}",
        x_fal_file_name="../../a b.txt",
        content_type="text/plain",
        x_fal_object_lifecycle=LIFE,
        x_fal_object_lifecycle_preference=LIFE,
    )


def test_bytes_async():
    import asyncio

    assert fetched(asyncio.run(fal_client.upload_async(PLAIN, "text/plain"))) == ("text/plain", PLAIN)


def test_file(tmp_path):
    path = tmp_path / "hello.json"
    path.write_bytes(b"{}")
    assert fetched(fal_client.upload_file(path)) == ("application/json", b"{}")


def test_image():
    url = fal_client.upload_image(Image.new("RGB", (8, 6), "red"), format="png")
    kind, content = fetched(url)
    assert kind == "image/png"
    assert Image.open(io.BytesIO(content)).size == (8, 6)


def test_large_file_in_parallel_parts(tmp_path):
    """Above 100 MiB the client sends parts, ten at a time, and lists them in the order they were acknowledged."""
    path = tmp_path / "large.bin"
    part = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(105):
            file.write(number.to_bytes(4, "big") + part)
    wire.break_calls(method="PUT", path="/1$", delay=1500)
    kind, content = fetched(fal_client.upload_file(path))
    assert kind == "application/octet-stream"
    assert content == path.read_bytes()
    wire.sent(wire.call("POST", "/files/upload/multipart$"), x_fal_file_name="large.bin", content_length="0")
    parts = {call["url"].rsplit("/", 1)[1]: call for call in wire.calls("PUT")}
    assert len(parts) == 11
    listed = wire.call("POST", "/complete$")["body"]["parts"]
    assert listed != sorted(listed, key=lambda part: part["partNumber"]), "the delayed part is listed late"
    for part in listed:
        assert part["etag"] == parts[str(part["partNumber"])]["answer_headers"]["etag"]


@pytest.mark.parametrize("broken", [{"answer": {"status": 500}}, {"drop": "call", "times": 10}])
def test_the_fallback_when_the_file_host_fails(broken, no_waits):
    wire.break_calls(path="/files/upload$", **broken)
    assert fetched(fal_client.upload(PLAIN, "text/plain", file_name="down.txt")) == ("text/plain", PLAIN)
    initiate = wire.call("POST", "/storage/upload/initiate")
    assert initiate["url"].endswith("?storage_type=gcs")
    assert initiate["body"] == {"file_name": "down.txt", "content_type": "text/plain"}
    wire.sent(wire.call("PUT"), authorization="Key local:test", content_type="text/plain")


def test_lost_answers_do_not_fail_an_upload(no_waits):
    """The client repeats the call, and the server treats it as the same upload."""
    wire.break_calls(path="/files/upload$", answer={"status": 500})
    wire.break_calls(method="PUT", times=2, drop="answer")
    assert fetched(fal_client.upload(PLAIN, "text/plain")) == ("text/plain", PLAIN)
    assert [call["status"] for call in wire.calls("PUT")] == [200, 200, 200]


def test_an_upload_url_is_used_once():
    base = os.environ["LATENTD_URL"]
    asked = {"content_type": "text/plain", "file_name": "once.txt"}
    ticket = httpx.post(f"{base}/storage/upload/initiate?storage_type=gcs", json=asked).json()
    assert httpx.get(ticket["file_url"]).status_code == 404
    assert httpx.put(ticket["upload_url"], content=PLAIN).status_code == 200
    assert httpx.put(ticket["upload_url"], content=b"other").status_code == 410
    assert fetched(ticket["file_url"]) == ("text/plain", PLAIN)


@pytest.mark.parametrize("lifecycle", ["soon", '{"expiration_duration_seconds": "x"}'])
def test_an_invalid_lifecycle_is_an_error_that_names_it(lifecycle):
    headers = {"X-Fal-Object-Lifecycle": lifecycle}
    base = os.environ["LATENTD_URL"]
    response = httpx.post(f"{base}/storage/upload/initiate", json={"content_type": "text/plain"}, headers=headers)
    assert response.status_code == 400
    assert "lifecycle" in response.json()["detail"].lower()
