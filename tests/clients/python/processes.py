"""Finds the worker processes of a server. Uses nothing but /proc, for the runner uses it too."""

import pathlib


def workers_of(server_pid):
    """Process ids of the server's children that run `latentd worker`."""
    workers = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            # The fields after the name; the name stands in parentheses and may hold anything.
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == server_pid and b"worker" in arguments:
            workers.append(int(entry.name))
    return workers
