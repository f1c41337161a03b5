"""`fal.apps` of fal's own SDK, as a program of its own: it puts a slash behind its paths, and reads 200 as the end."""

import json
import os
import subprocess
import sys

import wire

from support import ENDPOINT, check_output, endless, small

PROGRAM = """
import json, os, sys
from fal import apps
apps._QUEUE_URL_FORMAT = os.environ["LATENTD_URL"] + "/queue/{app_id}"
apps._STREAM_URL_FORMAT = os.environ["LATENTD_URL"] + "/{app_id}"
endpoint, small, endless = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])

handle = apps.submit(endpoint, small, path="/turbo")
events = [type(event).__name__ for event in handle.iter_events(logs=True)]
completed = handle.status(logs=True)
said = {"events": events, "completed": completed.__dict__, "result": handle.fetch_result()}
said["run"] = apps.run(endpoint, small)

cancelled = apps.submit(endpoint, endless)
cancelled.cancel()
said["cancelled"] = [type(event).__name__ for event in cancelled.iter_events()]
said["error"] = cancelled.status().error_type
try:
    cancelled.fetch_result()
except Exception as error:
    said["raised"] = f"{type(error).__name__} {error}"

elsewhere = apps.RequestHandle("workflows/o/a", handle.request_id)
said["elsewhere"] = type(elsewhere.status()).__name__
said["stream"] = [line for line in apps.stream(endpoint, small, path="/stream") if line.startswith("data:")]
print(json.dumps(said))
"""


def test_submit_status_result_run_cancel_and_stream():
    command = [sys.executable, "-c", PROGRAM, ENDPOINT, json.dumps(small()), json.dumps(endless())]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert set(said["events"]) <= {"Queued", "InProgress"}
    assert said["completed"]["error"] is None
    assert any(log["message"].startswith("step 4/4") for log in said["completed"]["logs"])
    check_output(said["result"])
    check_output(said["run"])
    assert said["error"] == "client_cancelled"
    assert said["raised"].startswith("HTTPStatusError 499: ")
    assert said["elsewhere"] == "Completed"
    check_output(json.loads(said["stream"][-1].removeprefix("data:")))

    base = f"^/queue/{ENDPOINT}/requests/[^/]+"
    assert wire.calls("GET", base + "/status/\\?logs=1$")
    assert wire.calls("GET", base + "/$")
    assert wire.calls("GET", "^/queue/workflows/o/a/requests/[^/]+/status/")
