"""Runs whose response headers are sent before the run ends. Here `--run-headers-after 0` sends them at once."""

import json

import fal_client
import fal_client.client as C
import pytest

from processes import own_server
from support import ENDPOINT, check_output, endless, small


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with own_server(tmp_path_factory.mktemp("long"), "--run-headers-after", "0") as url:
        yield url


@pytest.fixture
def client(url, monkeypatch):
    monkeypatch.setattr(C, "RUN_URL_FORMAT", url + "/")
    monkeypatch.setattr(C, "QUEUE_URL_FORMAT", url + "/queue/")
    return fal_client.SyncClient()


def test_white_space_before_a_result_does_not_matter(client):
    check_output(client.run(ENDPOINT, small()))


def test_a_late_failure_raises(client):
    before = client.submit(ENDPOINT, endless())
    with pytest.raises(json.JSONDecodeError):
        client.run(ENDPOINT, small(), start_timeout=1.5)
    before.cancel()
