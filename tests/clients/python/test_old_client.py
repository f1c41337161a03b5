"""fal_client 0.5, the oldest version still in use, in a process of its own, since it cannot be imported beside the new
one. 0.5.0 uploads with the key itself, without fetching a token."""

import json
import os
import subprocess
import sys

import httpx
import pytest
import wire

from support import ENDPOINT, check_output, small

PROGRAM = """
import json, os, sys
import fal_client, fal_client.client as C
base = os.environ["LATENTD_URL"]
C.RUN_URL_FORMAT, C.QUEUE_URL_FORMAT = base + "/", base + "/queue/"
C.REST_URL = C.CDN_URL = base
endpoint, arguments = sys.argv[1], json.loads(sys.argv[2])
lines = []
def update(status):
    lines.extend(log["message"] for log in getattr(status, "logs", None) or [])
subscribed = fal_client.subscribe(endpoint, arguments, with_logs=True, on_queue_update=update)
handle = fal_client.submit(endpoint, arguments, path="/turbo")
print(json.dumps({"subscribed": subscribed, "lines": lines, "got": handle.get(),
                  "run": fal_client.run(endpoint, arguments), "streamed": list(fal_client.stream(endpoint, arguments)),
                  "uploaded": fal_client.upload(b"words", "text/plain"), "client": fal_client.__file__}))
"""


@pytest.mark.parametrize("version", ["0_5_9", "0_5_0"])
def test_version_0_5(version):
    old = os.path.join(sys.prefix, f"fal_client_{version}")
    command = [sys.executable, "-c", PROGRAM, ENDPOINT, json.dumps(small())]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": old}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["client"].startswith(old + os.sep)
    for name in ("subscribed", "got", "run"):
        check_output(printed[name])
    check_output(printed["streamed"][-1])
    assert httpx.get(printed["uploaded"]).content == b"words"
    assert len(wire.calls("POST", "^/storage/auth/token")) == (version == "0_5_9")
    upload = wire.call("POST", "^/files/upload$")["headers"]["authorization"]
    assert upload.split(" ")[0] == ("Bearer" if version == "0_5_9" else "Key")
    assert any(line.startswith("step 4/4") for line in printed["lines"])
    for call in wire.calls("POST", "^/(queue|fal-ai)/"):
        assert call["headers"]["user-agent"] == "fal-client/0.2.2 (python)", "the user agent of every version of that time"
