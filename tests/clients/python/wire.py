"""The requests and responses of the running test's clients, as ../wire.mjs recorded them."""

import json
import os
import re
import time
import urllib.request


def _ask(method, path, /, **body):
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(os.environ["LATENTD_WIRE"] + path, data, method=method)) as answer:
        return json.load(answer)


def begin(name):
    """Assigns the calls from now on to this test; returns the path of its record."""
    return _ask("POST", "/test", name=name)["path"]


def proxy_for(server):
    """The address of a new recording proxy for a server that a test started itself."""
    return _ask("POST", "/proxy", to=server)["url"]


def break_calls(**fault):
    """Makes the next calls fail: see `Break` in ../wire.mjs."""
    _ask("POST", "/break", **fault)


def calls(method=None, path=""):
    """This test's calls in the order they began. Header names are in lower case; a JSON body is parsed."""
    found = [call for call in _ask("GET", "/calls") if method in (None, call["method"]) and re.search(path, call["url"])]
    for call in found:
        try:
            call["body"] = json.loads(call.get("sent", ""))
        except ValueError:
            call["body"] = call.get("sent")
    return found


def violations():
    """The rules of ../rules.mjs that the responses violate."""
    return _ask("GET", "/violations")


def call(method, path=""):
    """The one call that matches; fails unless there is exactly one."""
    (found,) = calls(method, path)
    return found


def answered(method, path="", seconds=30):
    """The first call that matches, once it has been answered: of a thread that the test does not wait for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := [call for call in calls(method, path) if "status" in call]:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"no answered {method} {path} within {seconds} s")


def sent(call, **headers):
    """Checks headers that a client sent, named with underscores; `None` is one that it must not send."""
    for name, value in headers.items():
        assert call["headers"].get(name.replace("_", "-")) == value, name
