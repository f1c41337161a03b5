"""Loaded before a program by test_intercept.py: writes down every name that is looked up and every address that is
connected to, and lets nothing leave this machine."""

import os
import sys


def witness(event, arguments):
    if event == "socket.getaddrinfo":
        what, host = "lookup", arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        what, host = "connect", arguments[1][0]
    else:
        return
    port = arguments[1] if what == "lookup" else arguments[1][1]
    with open(os.environ["WITNESS"], "a") as file:
        print(f"{what} {host}:{port}", file=file)
    if host not in ("127.0.0.1", "localhost"):
        raise OSError(101, f"the witness lets nothing go to {host}")


sys.addaudithook(witness)
