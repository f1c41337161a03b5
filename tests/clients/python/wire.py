"""What the running test's clients sent and were answered, as ../wire.mjs wrote it down."""

import json
import os
import re
import urllib.request


def _ask(method, path, /, **body):
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(os.environ["LATENTD_WIRE"] + path, data, method=method)) as answer:
        return json.load(answer)


def begin(name):
    """From now on calls belong to this test; returns the path of its log."""
    return _ask("POST", "/test", name=name)["path"]


def front(server):
    """A new address in front of a server that a test started itself."""
    return _ask("POST", "/front", to=server)["url"]


def break_calls(**fault):
    """Breaks the next calls: see `Break` in ../wire.mjs."""
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


def broken():
    """What is wrong with their answers, by the rules of ../rules.mjs."""
    return _ask("GET", "/broken")


def call(method, path=""):
    """The only such call."""
    (found,) = calls(method, path)
    return found


def sent(call, **headers):
    """Checks headers that a client sent, named with underscores; `None` is one that it must not send."""
    for name, value in headers.items():
        assert call["headers"].get(name.replace("_", "-")) == value, name
