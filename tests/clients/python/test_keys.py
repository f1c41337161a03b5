"""fal_client against a server that requires keys, with each way to pass one. Starts its own server."""

import os
import subprocess

import fal_client
import httpx
import pytest

from processes import own_server
from support import ENDPOINT, check_output, small


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server's URL and a key."""
    data = tmp_path_factory.mktemp("keyed")
    create = [os.environ["LATENTD_BIN"], "keys", "create", "--data-dir", data]
    key = subprocess.run(create, check=True, capture_output=True, text=True).stdout.strip()
    with own_server(data) as url:
        yield url, key


@pytest.fixture
def key(server):
    return server[1]


@pytest.fixture
def client(server, client_of, monkeypatch):
    """A client that reads its key from the environment, where a test sets it."""
    for name in ("FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return client_of(server[0])


def test_fal_key(key, client, monkeypatch):
    monkeypatch.setenv("FAL_KEY", key)
    check_output(client.subscribe(ENDPOINT, small()))
    check_output(client.run(ENDPOINT, small()))
    check_output(list(client.stream(ENDPOINT, small()))[-1])
    assert httpx.get(client.upload(b"text", "text/plain")).content == b"text"


def test_fal_key_id_and_secret(key, client, monkeypatch):
    key_id, secret = key.split(":")
    monkeypatch.setenv("FAL_KEY_ID", key_id)
    monkeypatch.setenv("FAL_KEY_SECRET", secret)
    check_output(client.subscribe(ENDPOINT, small()))


def test_a_wrong_key_is_a_401(key, client, monkeypatch):
    monkeypatch.setenv("FAL_KEY", key[:-1] + "x")
    for call in (client.run, client.submit):
        with pytest.raises(fal_client.FalClientHTTPError, match="Authentication is required") as caught:
            call(ENDPOINT, small())
        assert caught.value.status_code == 401
        assert caught.value.response.headers["www-authenticate"] == "Key"
