"""Calls that fail on the network: which ones fal_client retries, how often, and what reaches the server."""

import fal_client
import fal_client.client as C
import pytest
import wire
from fal_client import Completed, FalClientHTTPError

from support import ENDPOINT, check_output, small

pytestmark = pytest.mark.usefixtures("no_waits")

NGINX = {"headers": {"content-type": "text/html"}, "body": "<center>nginx</center>"}


@pytest.mark.parametrize("call", [fal_client.run, fal_client.submit])
@pytest.mark.parametrize("answer", [{"status": 429}, {"status": 408}, {"status": 502} | NGINX, {"status": 503} | NGINX])
def test_ten_tries(call, answer):
    wire.break_calls(method="POST", times=10, answer=answer)
    with pytest.raises(FalClientHTTPError) as failed:
        call(ENDPOINT, small())
    assert failed.value.status_code == answer["status"]
    assert len(wire.calls("POST")) == C.MAX_ATTEMPTS == 10


@pytest.mark.parametrize("status", [500, 503, 504])
def test_an_error_with_a_request_id_is_not_retried(status):
    headers = {"x-fal-request-id": "00000000-0000-4000-8000-000000000000", "x-fal-error-type": "internal_error"}
    wire.break_calls(method="POST", answer={"status": status, "headers": headers, "body": "not an nginx error"})
    with pytest.raises(FalClientHTTPError, match="not an nginx error") as failed:
        fal_client.submit(ENDPOINT, small())
    assert (failed.value.status_code, failed.value.error_type) == (status, "internal_error")
    assert len(wire.calls("POST")) == 1


def test_a_submit_that_never_arrives_is_sent_again_and_is_one_request():
    wire.break_calls(method="POST", times=9, drop="call")
    handle = fal_client.submit(ENDPOINT, small())
    check_output(handle.get())
    assert [call.get("status") for call in wire.calls("POST")] == [None] * 9 + [200]


def test_status_result_and_cancel_survive_lost_answers():
    handle = fal_client.submit(ENDPOINT, small())
    *_, last = handle.iter_events()
    assert isinstance(last, Completed)
    before = len(wire.calls())
    wire.break_calls(path="/status", times=2, drop="answer")
    wire.break_calls(path=f"{handle.request_id}$", times=3, drop="answer")
    wire.break_calls(path="/cancel$", times=1, drop="call")
    check_output(handle.get())
    with pytest.raises(FalClientHTTPError, match="ALREADY_COMPLETED"):
        handle.cancel()
    assert len([call for call in wire.calls()[before:] if "status" not in call or call["status"] != 200]) >= 2
    assert len(wire.calls("PUT")) == 2
