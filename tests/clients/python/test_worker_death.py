"""The worker process is killed in the middle of a request; the client sees one result."""

import os
import signal

import fal_client
from fal_client import Completed, InProgress

from processes import workers_of
from support import ENDPOINT, check_output, medium, small, steps


def worker_pid():
    """The server's one worker."""
    workers = workers_of(int(os.environ["LATENTD_PID"]))
    assert len(workers) == 1, f"workers: {workers}"
    return workers[0]


def test_kill_9_of_the_worker_mid_request():
    arguments = medium()
    uninterrupted = check_output(fal_client.run(ENDPOINT, arguments), width=1024, height=1024)

    killed_pid = worker_pid()
    handle = fal_client.submit(ENDPOINT, arguments)
    killed = False
    for event in handle.iter_events(with_logs=True, interval=0.02):
        if not killed and isinstance(event, InProgress) and steps(event.logs):
            assert max(steps(event.logs)) < 30, "too late to interrupt it"
            os.kill(killed_pid, signal.SIGKILL)
            killed = True
    assert killed
    assert isinstance(event, Completed) and event.error is None, event
    assert steps(event.logs)[-1] == 30

    output = handle.get()
    assert check_output(output, width=1024, height=1024) == uninterrupted, "the same image"
    assert handle.get() == output, "the result does not change"

    assert worker_pid() != killed_pid
    check_output(fal_client.run(ENDPOINT, small()))
