"""fal_client against a server that wants keys, with each way to give it one. Starts a server of its own."""

import os
import re
import subprocess
import time

import fal_client
import fal_client.client as C
import httpx
import pytest

from support import ENDPOINT, check_output, small

PROGRAM = os.environ["LATENTD_BIN"]
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("LATENTD_")}


class KeyedServer:
    """A server, its URL and its keys."""

    def __init__(self, data):
        self.data = data
        self.key = self.create_key()
        command = [PROGRAM, "serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir", data]
        self.process = subprocess.Popen(command, env=PLAIN, stdout=subprocess.PIPE, text=True)
        self.url = re.search(r"http://\S+", self.process.stdout.readline())[0]
        while httpx.get(f"{self.url}/health/ready").status_code != 200:
            time.sleep(0.05)

    def create_key(self):
        command = [PROGRAM, "keys", "create", "--data-dir", self.data]
        return subprocess.run(command, env=PLAIN, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = KeyedServer(tmp_path_factory.mktemp("keyed"))
    yield server
    server.process.terminate()
    assert server.process.wait(20) == 0


@pytest.fixture
def client(server, monkeypatch):
    """A client that finds its key in the environment, where a test puts it."""
    monkeypatch.setattr(C, "RUN_URL_FORMAT", server.url + "/")
    monkeypatch.setattr(C, "QUEUE_URL_FORMAT", server.url + "/queue/")
    monkeypatch.setattr(C, "REST_URL", server.url)
    monkeypatch.setattr(C, "CDN_URL", server.url)
    for name in ("FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return fal_client.SyncClient()


def test_fal_key(server, client, monkeypatch):
    monkeypatch.setenv("FAL_KEY", server.key)
    check_output(client.subscribe(ENDPOINT, small()))
    check_output(client.run(ENDPOINT, small()))
    check_output(list(client.stream(ENDPOINT, small()))[-1])
    assert httpx.get(client.upload(b"text", "text/plain")).content == b"text"


def test_fal_key_id_and_secret(server, client, monkeypatch):
    key_id, secret = server.key.split(":")
    monkeypatch.setenv("FAL_KEY_ID", key_id)
    monkeypatch.setenv("FAL_KEY_SECRET", secret)
    check_output(client.subscribe(ENDPOINT, small()))


def test_a_wrong_key_is_a_401(server, client, monkeypatch):
    monkeypatch.setenv("FAL_KEY", server.key[:-1] + "x")
    for call in (client.run, client.submit):
        with pytest.raises(fal_client.FalClientHTTPError, match="Authentication is required") as caught:
            call(ENDPOINT, small())
        assert caught.value.status_code == 401
        assert caught.value.response.headers["www-authenticate"] == "Key"
