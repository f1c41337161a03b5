"""The HTTP requests that fal_client makes for each of its calls, and that each call returns what it documents."""

import asyncio
import re

import fal_client
import httpx_sse
import pytest
import wire
from fal_client import Completed, FalClientHTTPError

from support import ENDPOINT, check_output, endless, small

AGENT = f"fal-client/{fal_client.__version__} (python)"
COMMON = {"authorization": "Key local:test", "user_agent": AGENT, "content_type": "application/json"}


def paths(method):
    return [call["url"] for call in wire.calls(method)]


def test_run_with_every_option():
    options = {"start_timeout": 30, "hint": "h1", "timeout": 60, "headers": {"X-Fal-Store-IO": "0"}}
    check_output(fal_client.run(ENDPOINT, small(), path="/turbo", **options))
    call = wire.call("POST")
    assert call["url"] == f"/{ENDPOINT}/turbo"
    assert call["body"] == small()
    wire.sent(call, **COMMON, x_fal_request_timeout="30.0", x_fal_runner_hint="h1", x_fal_store_io="0")


def test_submit_with_every_option():
    options = {"hint": "h1", "priority": "low", "start_timeout": 20, "headers": {"X-Fal-No-Retry": "1"}}
    handle = fal_client.submit(ENDPOINT, small(), path="turbo", **options)
    check_output(handle.get())
    call = wire.call("POST")
    assert call["url"] == f"/queue/{ENDPOINT}/turbo"
    assert call["body"] == small()
    wire.sent(call, **COMMON, x_fal_queue_priority="low", x_fal_runner_hint="h1", x_fal_request_timeout="20.0")
    assert ["X-Fal-No-Retry", "1"] in call["raw_headers"], "custom headers keep their case"


def test_submit_without_options_sends_no_priority():
    handle = fal_client.submit(ENDPOINT, small())
    handle.get()
    wire.sent(wire.call("POST"), x_fal_queue_priority=None, x_fal_request_timeout=None)


def test_a_handle_follows_the_urls_of_its_submit():
    handle = fal_client.submit(ENDPOINT, small(), path="/turbo")
    check_output(handle.get())
    handle.status(with_logs=True)
    with pytest.raises(FalClientHTTPError):
        handle.cancel()
    base = f"/queue/{ENDPOINT}/requests/{handle.request_id}"
    asked = [path for path in paths("GET") if path.startswith(base)]
    assert asked[-1] == f"{base}/status?logs=true"
    assert asked[-2] == base
    assert set(asked[:-2]) == {f"{base}/status?logs=false"}
    cancel = wire.call("PUT")
    assert (cancel["url"], cancel["sent_bytes"]) == (f"{base}/cancel", 0)
    wire.sent(cancel, content_length="0")


def test_subscribe_polls_once_more_after_its_events():
    events = []
    output = fal_client.subscribe(ENDPOINT, small(), with_logs=True, on_queue_update=events.append)
    assert isinstance(events[-1], Completed)
    asked = [path.partition("?")[2] for path in paths("GET")]
    assert asked == ["logs=true"] * len(events) + ["logs=false", ""]
    check_output(output)


def test_a_request_is_found_by_its_id_under_any_name():
    request_id = fal_client.submit(ENDPOINT, small()).request_id
    names = {"123-name": "123/name", "workflows/o/a/x": "workflows/o/a", "comfy/o/a": "comfy/o/a"}
    for name, path in names.items():
        fal_client.status(name, request_id)
        wire.call("GET", f"^/queue/{path}/requests/{request_id}/status")
        check_output(fal_client.result(name, request_id))


@pytest.mark.parametrize("call", [fal_client.run, fal_client.submit])
def test_an_application_that_is_not_served_is_a_404_that_names_it(call):
    with pytest.raises(FalClientHTTPError, match='"name" not found') as refused:
        call("123/name", small())
    assert refused.value.status_code == 404
    assert "x-fal-request-id" in refused.value.response_headers


def test_async_calls_are_the_same_on_the_wire():
    def seen(calls):
        names = ("user-agent", "content-type", "accept", "x-fal-queue-priority", "x-fal-runner-hint", "x-fal-file-name")
        return [
            (
                call["method"],
                re.sub("requests/[^/?]+", "requests/ID", call["url"]),
                [call["headers"].get(name) for name in names],
            )
            for call in calls
            if "/status" not in call["url"]
        ]

    async def program():
        client = fal_client.AsyncClient(key="local:test")
        handle = await client.submit(ENDPOINT, small(), path="/turbo", hint="h1", priority="low")
        await handle.get()
        await client.result(ENDPOINT, handle.request_id)
        await client.run(ENDPOINT, small())
        await client.upload(b"words", "text/plain")

    handle = fal_client.submit(ENDPOINT, small(), path="/turbo", hint="h1", priority="low")
    handle.get()
    fal_client.result(ENDPOINT, handle.request_id)
    fal_client.run(ENDPOINT, small())
    fal_client.SyncClient(key="local:test").upload(b"words", "text/plain")
    sync = wire.calls()
    asyncio.run(program())
    both = wire.calls()
    assert seen(both[len(sync) :]) == seen(sync)
    assert len(seen(sync)) == 6


def test_stream_accepts_event_streams():
    *_, last = fal_client.stream(ENDPOINT, small())
    check_output(last)
    call = wire.call("POST")
    assert call["url"] == f"/{ENDPOINT}/stream"
    wire.sent(call, accept="text/event-stream", cache_control="no-store")
    assert call["answer_headers"]["content-type"].startswith("text/event-stream")


def test_a_refused_stream_raises_the_clients_own_error():
    """The client reports that the response is no event stream, and hides the 422."""
    with pytest.raises(httpx_sse.SSEError, match="application/json"):
        list(fal_client.stream(ENDPOINT, small(num_images=9)))
    call = wire.call("POST")
    assert call["status"] == 422
    assert '"num_images"' in call["answer"]


def test_client_timeout_is_sent_and_cancels():
    """The cancelled request is COMPLETED, which also ends the client's polling thread."""
    with pytest.raises(fal_client.FalClientTimeoutError) as ended:
        fal_client.subscribe(ENDPOINT, endless(), client_timeout=1.5)
    wire.sent(wire.call("POST"), x_fal_request_timeout="1.5")
    assert wire.call("PUT")["status"] in (200, 202)
    request_id = ended.value.request_id
    # The client's polling thread asks for the result, whenever it sees the end.
    assert wire.answered("GET", f"/requests/{request_id}$")["status"] == 499
    assert fal_client.status(ENDPOINT, request_id).error_type == "client_cancelled"
