"""The web sockets of fal's own SDK, HTTP over one and its realtime, as a program of its own."""

import json
import os
import subprocess
import sys

from support import ENDPOINT, check_output, small, steps

PROGRAM = """
import json, os, sys
from fal import apps
base = os.environ["LATENTD_URL"].replace("http", "ws", 1)
apps._WS_URL_FORMAT, apps._REALTIME_URL_FORMAT = base + "/ws/{app_id}", base + "/{app_id}"
endpoint, arguments = sys.argv[1], json.loads(sys.argv[2])
said = {}
with apps.ws(endpoint) as connection:
    said["run"] = json.loads(connection.run(arguments))
    connection.send(arguments)
    connection.send({})
    said["second"] = json.loads(connection.recv())
    said["refused"] = json.loads(connection.recv())
with apps.ws(endpoint, path="/stream") as connection:
    connection.send(arguments)
    said["stream"] = "".join(connection.stream())
with apps._connect(endpoint) as connection:
    said["realtime"] = connection.run(arguments)
print(json.dumps(said))
"""


def test_fal_sdk():
    command = [sys.executable, "-c", PROGRAM, ENDPOINT, json.dumps(small())]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    for name in ("run", "second", "realtime"):
        check_output(said[name])
    assert said["refused"]["detail"][0]["type"] == "missing"
    lines = said["stream"].splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert steps([log for event in events for log in event.get("logs", [])]) == [1, 2, 3, 4]
    check_output(events[-1])
