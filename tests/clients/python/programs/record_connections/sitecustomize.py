"""Preloaded into a program by test_intercept.py: records every DNS lookup and every connection, and blocks all that would
leave this machine."""

import os
import sys


def record(event, arguments):
    if event == "socket.getaddrinfo":
        what, host = "lookup", arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        what, host = "connect", arguments[1][0]
    else:
        return
    port = arguments[1] if what == "lookup" else arguments[1][1]
    with open(os.environ["CONNECTION_LOG"], "a") as file:
        print(f"{what} {host}:{port}", file=file)
    if host not in ("127.0.0.1", "localhost"):
        raise OSError(101, f"connections to {host} are blocked in this test")


sys.addaudithook(record)
