"""fal_client's uploads: what comes back from the URL is what was sent."""

import io
import os

import fal_client
import fal_client.client as C
import httpx
import pytest
from PIL import Image

PLAIN = b"a few words\n"


def fetched(url):
    """The file, checked for what keeps a stranger's file from being run by a browser."""
    response = httpx.get(url)
    assert response.status_code == 200
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    return response.headers["content-type"], response.content


def test_bytes():
    url = fal_client.upload(PLAIN, "text/plain", file_name="../../a b.txt")
    assert fetched(url) == ("text/plain", PLAIN)


def test_bytes_async():
    import asyncio

    assert fetched(asyncio.run(fal_client.upload_async(PLAIN, "text/plain"))) == ("text/plain", PLAIN)


def test_file(tmp_path):
    path = tmp_path / "hello.json"
    path.write_bytes(b"{}")
    assert fetched(fal_client.upload_file(path)) == ("application/json", b"{}")


def test_picture():
    url = fal_client.upload_image(Image.new("RGB", (8, 6), "red"), format="png")
    kind, content = fetched(url)
    assert kind == "image/png"
    assert Image.open(io.BytesIO(content)).size == (8, 6)


def test_large_file_in_parallel_parts(tmp_path):
    """Above 100 MiB the client sends parts, ten at a time, and names them in the order they arrived."""
    path = tmp_path / "large.bin"
    part = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(105):
            file.write(number.to_bytes(4, "big") + part)
    kind, content = fetched(fal_client.upload_file(path))
    assert kind == "application/octet-stream"
    assert content == path.read_bytes()


def test_second_way_when_the_file_host_is_down(monkeypatch):
    monkeypatch.setattr(C, "CDN_URL", "http://127.0.0.1:9")
    assert fetched(fal_client.upload(PLAIN, "text/plain", file_name="down.txt")) == ("text/plain", PLAIN)


def test_a_ticket_is_used_once():
    base = os.environ["LATENTD_URL"]
    asked = {"content_type": "text/plain", "file_name": "once.txt"}
    ticket = httpx.post(f"{base}/storage/upload/initiate?storage_type=gcs", json=asked).json()
    assert httpx.get(ticket["file_url"]).status_code == 404
    assert httpx.put(ticket["upload_url"], content=PLAIN).status_code == 200
    assert httpx.put(ticket["upload_url"], content=b"other").status_code == 410
    assert fetched(ticket["file_url"]) == ("text/plain", PLAIN)


@pytest.mark.parametrize("lifecycle", ["soon", '{"expiration_duration_seconds": "x"}'])
def test_a_lifecycle_that_cannot_be_read_is_named(lifecycle):
    headers = {"X-Fal-Object-Lifecycle": lifecycle}
    base = os.environ["LATENTD_URL"]
    response = httpx.post(f"{base}/storage/upload/initiate", json={"content_type": "text/plain"}, headers=headers)
    assert response.status_code == 400
    assert "lifecycle" in response.json()["detail"].lower()
