"""Processes that are killed and started again, and the two of them that are latentd's: servers and workers."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time

ENDPOINT = "fal-ai/stable-diffusion-v35-large"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def children(pid):
    """The process ids of a process' children."""
    found = []
    for one in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, one.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread that has ended
    return found


def is_running(pid):
    """Whether the process is there and no zombie, which nobody may be there to reap."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def send(number, pid):
    """Sends a signal, unless the process has ended by itself."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def last_lines(path):
    return "\n".join(pathlib.Path(path).read_text(errors="replace").splitlines()[-10:])


def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith(("LATENTD_", "FAL_", "AWS_"))}


class NotReady(Exception):
    """A server did not get ready."""


class Process:
    """A process that is started again whenever it has ended, with its output in a file."""

    def __init__(self, command, log, environment, prefix=()):
        self.command = [*map(str, prefix), *map(str, command)]
        self.environment = clean_environment() | environment
        self.log = open(log, "ab")
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart_if_ended(self):
        """As a service manager does: it ends by itself where it starts while the database or the storage is away."""
        if self.process.poll() is not None:
            self.start()

    def last_lines(self):
        return last_lines(self.log.name)


class Worker(Process):
    """A `latentd worker`, as on a host without a server."""

    stopped = False

    def stop(self):
        self.stopped = True
        send(signal.SIGSTOP, self.process.pid)

    def go_on(self):
        send(signal.SIGCONT, self.process.pid)
        self.stopped = False

    def kill(self):
        super().kill()
        self.stopped = False

    def id(self):
        """Its name in the database, or None before it has written it to its log."""
        log = pathlib.Path(self.log.name).read_text(errors="replace")
        found = re.findall(r"worker=\"?([0-9a-f-]{36})", log)
        return found[-1] if found else None

    def drain(self, limit):
        """Ends it after what it is working on."""
        self.process.terminate()
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            sys.exit(f"a worker did not end within {limit} s; its last lines:\n{self.last_lines()}")


class Server(Process):
    """A `latentd serve` on a port that it keeps."""

    def __init__(self, binary, folder, name, flags, environment):
        self.port = free_port()
        self.data = folder / f"data-{name}"
        self.started_at = time.time()
        self.worker_killed_at = None
        listen = ["--listen", f"127.0.0.1:{self.port}", "--data-dir", self.data, "--model", "mini"]
        super().__init__([binary, "serve", *listen, *flags], folder / f"{name}.log", environment)

    def start(self):
        super().start()
        self.worker_killed_at = None

    def kill_worker(self):
        """Kills its worker, if it has one; whether that is the first death within a minute, which no pause follows."""
        now, last = time.time(), self.worker_killed_at
        self.worker_killed_at = now
        for pid in children(self.process.pid):
            send(signal.SIGKILL, pid)
        return last is None or now - last > 60

    def call(self, method, path, body=None, headers=None, timeout=30):
        """Status code and body of an answer; raises OSError where there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            content = None if body is None else json.dumps(body)
            sent = {"Content-Type": "application/json"} if content else {}
            connection.request(method, path, content, sent | (headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def is_ready(self):
        try:
            return self.call("GET", "/health/ready")[0] == 200
        except OSError:
            return False

    def wait_until_ready(self, limit):
        deadline = time.monotonic() + limit
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise NotReady(f"a server was not ready within {limit} s; its last lines:\n{self.last_lines()}")
            self.restart_if_ended()
            time.sleep(0.1)

    def scalar(self, statement):
        """The one value that a statement finds in its SQLite database."""
        database = sqlite3.connect(f"file:{self.data / 'latentd.sqlite'}?mode=ro", uri=True)
        return database.execute(statement).fetchone()[0]
