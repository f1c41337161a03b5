"""fal_client's queue calls, sync and async."""

import asyncio
import time

import fal_client
import pytest
from fal_client import Completed, FalClientHTTPError, FalClientTimeoutError, InProgress, Queued

from support import ENDPOINT, check_output, endless, medium, small, steps


def test_subscribe_reports_progress():
    updates, enqueued = [], []
    output = fal_client.subscribe(
        ENDPOINT,
        small(num_inference_steps=20),
        with_logs=True,
        on_enqueue=enqueued.append,
        on_queue_update=updates.append,
    )
    check_output(output)
    assert len(enqueued) == 1
    assert isinstance(updates[-1], Completed)
    assert steps(updates[-1].logs) == list(range(1, 21))
    assert updates[-1].metrics["inference_time"] > 0
    assert updates[-1].error is None


def test_submit_iter_events_get():
    handle = fal_client.submit(ENDPOINT, medium())
    behind = fal_client.submit(ENDPOINT, small())
    events = list(behind.iter_events(with_logs=True))
    order = {Queued: 0, InProgress: 1, Completed: 2}
    seen = [order[type(event)] for event in events]
    assert seen == sorted(seen)
    assert events[0] == Queued(position=events[0].position)
    assert isinstance(events[-1], Completed)
    assert steps(events[-1].logs) == [1, 2, 3, 4]
    check_output(behind.get())
    check_output(handle.get(), width=1024, height=1024)


def test_logs_grow_during_the_run():
    handle = fal_client.submit(ENDPOINT, medium())
    counts = []
    for event in handle.iter_events(with_logs=True):
        if isinstance(event, InProgress):
            counts.append(len(steps(event.logs)))
    assert counts == sorted(counts)
    assert len(set(counts)) > 2, f"progress is visible while it happens: {counts}"


def test_status_result_and_cancel_by_id():
    request_id = fal_client.submit(ENDPOINT, small()).request_id
    while not isinstance(fal_client.status(ENDPOINT, request_id, with_logs=True), Completed):
        time.sleep(0.05)
    check_output(fal_client.result(ENDPOINT, request_id))
    with pytest.raises(FalClientHTTPError) as refused:
        fal_client.cancel(ENDPOINT, request_id)
    assert refused.value.status_code == 400
    assert refused.value.response.json() == {"status": "ALREADY_COMPLETED"}


def test_cancel_running_and_queued():
    running = fal_client.submit(ENDPOINT, endless())
    while not isinstance(running.status(), InProgress):
        time.sleep(0.05)
    queued = fal_client.submit(ENDPOINT, small())
    assert queued.status() == Queued(position=0)
    for handle in (queued, running):
        handle.cancel()
        *_, last = handle.iter_events(with_logs=True)
        assert last.error_type == "client_cancelled"
        with pytest.raises(FalClientHTTPError) as cancelled:
            handle.get()
        assert cancelled.value.status_code == 499
        assert cancelled.value.error_type == "client_cancelled"


def test_client_timeout_cancels():
    enqueued = []
    with pytest.raises(FalClientTimeoutError):
        fal_client.subscribe(ENDPOINT, endless(), client_timeout=2, on_enqueue=enqueued.append)
    while not isinstance(status := fal_client.status(ENDPOINT, enqueued[0]), Completed):
        time.sleep(0.05)
    assert status.error_type == "client_cancelled"


def test_run():
    check_output(fal_client.run(ENDPOINT, small()))


def test_refused_arguments():
    with pytest.raises(FalClientHTTPError) as refused:
        fal_client.run(ENDPOINT, small(num_images=9))
    assert refused.value.status_code == 422
    assert refused.value.message[0]["loc"] == ["body", "num_images"]

    handle = fal_client.submit(ENDPOINT, {})
    with pytest.raises(FalClientHTTPError) as refused:
        handle.get()
    assert refused.value.status_code == 422
    assert refused.value.message[0]["type"] == "missing"
    assert refused.value.response_headers["x-fal-request-id"] == handle.request_id


def test_async_client():
    async def program():
        client = fal_client.AsyncClient(key="local:test")
        updates = []
        subscribed, (handle, events) = await asyncio.gather(
            client.subscribe(ENDPOINT, small(), with_logs=True, on_queue_update=updates.append),
            submit_and_watch(client),
        )
        check_output(subscribed)
        assert isinstance(updates[-1], Completed)
        assert isinstance(events[-1], Completed)
        check_output(await handle.get())
        check_output(await client.run(ENDPOINT, small()))

    async def submit_and_watch(client):
        handle = await client.submit(ENDPOINT, small())
        return handle, [event async for event in handle.iter_events(with_logs=True)]

    asyncio.run(program())
