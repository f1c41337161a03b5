"""The worker process is killed in the middle of a request; the client sees one result."""

import os
import pathlib
import signal

import fal_client
import pytest
from fal_client import Completed, InProgress

from support import ENDPOINT, check_output, long, small, steps


def worker_pid():
    """The server's one child that runs `latentd worker`."""
    server = os.environ.get("LATENTD_PID")
    if server is None or not pathlib.Path("/proc").is_dir():
        pytest.fail("LATENTD_PID must name the server and /proc must be there to find its worker")
    workers = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            # The fields after the name, which may hold anything, between parentheses.
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            continue
        if parent == server and b"worker" in arguments:
            workers.append(int(entry.name))
    assert len(workers) == 1, f"children of {server} that are workers: {workers}"
    return workers[0]


def test_kill_9_of_the_worker_mid_request():
    arguments = long(num_images=1, num_inference_steps=20)
    undisturbed = fal_client.run(ENDPOINT, arguments)

    victim = worker_pid()
    handle = fal_client.submit(ENDPOINT, arguments)
    killed = False
    for event in handle.iter_events(with_logs=True, interval=0.02):
        if not killed and isinstance(event, InProgress) and steps(event.logs):
            assert max(steps(event.logs)) < 20, "too late to disturb it"
            os.kill(victim, signal.SIGKILL)
            killed = True
    assert killed
    assert isinstance(event, Completed) and event.error is None, event
    assert steps(event.logs)[-1] == 20

    output = handle.get()
    check_output(output, width=1024, height=1024)
    assert len(output["images"]) == 1
    assert handle.get() == output, "the result is settled"
    assert output["seed"] == undisturbed["seed"]

    assert worker_pid() != victim
    check_output(fal_client.run(ENDPOINT, small()))
