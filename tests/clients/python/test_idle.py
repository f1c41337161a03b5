"""fal_client against a server without a worker, where every request stays queued. Starts that server."""

import fal_client
import pytest
import wire
from fal_client import FalClientHTTPError, Queued

from processes import own_server
from support import ENDPOINT, small


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with own_server(tmp_path_factory.mktemp("idle"), "--workers", "0", "--max-queue", "2", ready=False) as url:
        yield url


@pytest.fixture
def client(url, client_of):
    return client_of(url)


def test_low_priority_waits_behind_normal(client):
    low = client.submit(ENDPOINT, small(), priority="low")
    normal = client.submit(ENDPOINT, small())
    assert (low.status(), normal.status()) == (Queued(1), Queued(0))
    for handle in (normal, low):
        handle.cancel()
    assert [call["status"] for call in wire.calls("PUT")] == [200, 200]


def test_a_full_queue_is_an_error_at_once(client):
    """The client does not retry a 503 that has a request id, since fal itself sent it."""
    waiting = [client.submit(ENDPOINT, small()) for _ in range(2)]
    with pytest.raises(FalClientHTTPError, match="the queue is full") as refused:
        client.submit(ENDPOINT, small())
    assert (refused.value.status_code, refused.value.error_type) == (503, "runner_scheduling_failure")
    assert len(wire.calls("POST")) == 3
    for handle in waiting:
        handle.cancel()


def test_a_start_timeout_ends_run_and_subscribe_and_is_not_retried(client):
    for call in (client.run, client.subscribe):
        with pytest.raises(FalClientHTTPError) as late:
            call(ENDPOINT, small(), start_timeout=1.1)
        assert (late.value.status_code, late.value.error_type) == (504, "request_timeout")
        assert late.value.response_headers["x-fal-request-timeout-type"] == "user"
    assert len(wire.calls("POST")) == 2
    assert len([call for call in wire.calls("GET") if call["status"] == 504]) == 1


@pytest.mark.filterwarnings("ignore:start_timeout")
def test_client_timeout_of_a_waiting_request(client):
    with pytest.raises(fal_client.FalClientTimeoutError) as ended:
        client.subscribe(ENDPOINT, small(), client_timeout=1.2, start_timeout=30)
    assert wire.call("PUT")["status"] == 200
    assert client.status(ENDPOINT, ended.value.request_id).error_type == "client_cancelled"


def test_a_run_whose_connection_breaks_is_sent_again_and_is_queued_once(client, no_waits):
    wire.break_calls(method="POST", path=f"^/{ENDPOINT}$", drop="begun")
    with pytest.raises(FalClientHTTPError) as late:
        client.run(ENDPOINT, small(), start_timeout=1.5)
    assert late.value.status_code == 504
    assert [call.get("status") for call in wire.calls("POST")] == [None, 504]
    handle = client.submit(ENDPOINT, small())
    assert handle.status() == Queued(0), "no request is queued any more"
    handle.cancel()
