"""Starts servers and finds their workers. Uses only the standard library, since the runner imports it too."""

import contextlib
import os
import pathlib
import re
import subprocess
import time
import urllib.error
import urllib.request

import wire


def workers_of(server_pid):
    """Process ids of the server's children that run `latentd worker`."""
    workers = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            # The fields after the name; the name is in parentheses and may contain any character.
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == server_pid and b"worker" in arguments:
            workers.append(int(entry.name))
    return workers


@contextlib.contextmanager
def own_server(data, *flags, ready=True, recorded=True, **variables):
    """Starts a server with these flags, and waits for a worker if `ready`. Yields its URL: with `recorded`, that of a
    recording proxy."""
    program = os.environ["LATENTD_BIN"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LATENTD_")}
    environment |= variables
    command = [program, "serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir", data, *flags]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://\S+", process.stdout.readline())[0]
        while ready and not is_ready(url):
            time.sleep(0.05)
        yield wire.proxy_for(url) if recorded else url
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0


def is_ready(url):
    """Whether a server has a worker that is ready to generate."""
    try:
        return urllib.request.urlopen(f"{url}/health/ready", timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False
