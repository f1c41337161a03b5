"""`fal.apps` of fal's own SDK, in programs of its own: it appends a slash to its paths, takes a status of 200 for
completion, and sends HTTP over a web socket. It is redirected to this server in three ways: by its module's globals, by
its environment variables, and by `latentd env`."""

import json
import os
import subprocess
import sys

import pytest
import wire
from intercepted import ADDRESS, PROGRAMS, assert_stayed_here, as_fetched_here, run

from support import ENDPOINT, check_output, small, steps

# The SDK calls https only, and the recording proxy speaks http.
BY_ITS_MODULE = """
import os, runpy, sys
from fal import apps
base = os.environ["LATENTD_URL"]
socket = base.replace("http", "ws", 1)
apps._QUEUE_URL_FORMAT, apps._STREAM_URL_FORMAT = base + "/queue/{app_id}", base + "/{app_id}"
apps._WS_URL_FORMAT, apps._REALTIME_URL_FORMAT = socket + "/ws/{app_id}", socket + "/{app_id}"
runpy.run_path(sys.argv.pop(1))
"""
HOSTS = {"FAL_RUN_HOST": ADDRESS, "FAL_QUEUE_RUN_HOST": f"{ADDRESS}/queue", "FAL_WS_RUN_HOST": f"{ADDRESS}/ws"}
WITHOUT_PROXY = f"unset HTTPS_PROXY https_proxy WSS_PROXY wss_proxy; PYTHONPATH={PROGRAMS / 'record_connections'}"
WAYS = pytest.mark.parametrize("way", ["module", "hosts", "proxy"])


def output_of(program, way, tmp_path):
    if way == "module":
        command = [sys.executable, "-c", BY_ITS_MODULE, PROGRAMS / program, ENDPOINT, json.dumps(small())]
        done, seen = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=100), None
    elif way == "hosts":
        done, seen = run(tmp_path, [PROGRAMS / program], variables=HOSTS, change=WITHOUT_PROXY)
    else:
        done, seen = run(tmp_path, [PROGRAMS / program])
    assert done.returncode == 0, done.stderr
    if seen is not None:
        assert_stayed_here(seen)
    return json.loads(as_fetched_here(done.stdout.splitlines()[-1]))


@WAYS
def test_submit_status_result_run_cancel_and_stream(way, tmp_path):
    printed = output_of("fal_sdk.py", way, tmp_path)
    assert set(printed["events"]) <= {"Queued", "InProgress"}
    assert printed["completed"]["error"] is None
    assert any(log["message"].startswith("step 4/4") for log in printed["completed"]["logs"])
    check_output(printed["result"])
    check_output(printed["run"])
    assert printed["error"] == "client_cancelled"
    assert printed["raised"].startswith("HTTPStatusError 499: ")
    assert printed["elsewhere"] == "Completed"
    check_output(json.loads(printed["stream"][-1].removeprefix("data:")))
    if way == "module":
        base = f"^/queue/{ENDPOINT}/requests/[^/]+"
        assert wire.calls("GET", base + "/status/\\?logs=1$")
        assert wire.calls("GET", base + "/$")
        assert wire.calls("GET", "^/queue/workflows/o/a/requests/[^/]+/status/")


@WAYS
def test_http_over_web_sockets_and_realtime(way, tmp_path):
    printed = output_of("fal_sdk_sockets.py", way, tmp_path)
    for name in ("run", "second", "realtime"):
        check_output(printed[name])
    assert printed["refused"]["detail"][0]["type"] == "missing"
    lines = printed["stream"].splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert steps([log for event in events for log in event.get("logs", [])]) == [1, 2, 3, 4]
    check_output(events[-1])
    if way == "module":
        over, streamed, realtime = wire.calls("GET")[:3]
        assert [over["url"], streamed["url"]] == [f"/ws/{ENDPOINT}", f"/ws/{ENDPOINT}/stream"]
        assert {frame["kind"] for frame in over["frames"] if frame["from"] == "client"} <= {"text", "close"}
        assert realtime["url"] == f"/{ENDPOINT}/realtime"
        assert realtime["frames"][0]["kind"] == "binary"
