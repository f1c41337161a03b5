"""The processes that are killed: servers with their workers, and a PostgreSQL server."""

import glob
import http.client
import json
import os
import pathlib
import pwd
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


def kill(pid):
    """Sends SIGKILL, unless the process has ended by itself."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def last_lines(path):
    return "\n".join(pathlib.Path(path).read_text(errors="replace").splitlines()[-10:])


class Server:
    """A `latentd serve` with one worker, on a port that it keeps. Those of one folder share their files."""

    def __init__(self, binary, folder, index, database_url):
        self.port = free_port()
        self.data = folder / f"data-{index}"
        self.log = open(folder / f"server-{index}.log", "ab")
        flags = ["--listen", f"127.0.0.1:{self.port}", "--model", "mini", "--workers", "1", "--data-dir", str(self.data)]
        flags += ["--database-url", database_url, "--storage", str(folder / "files")] if database_url else []
        self.command = [str(binary), "serve", *flags]
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("LATENTD_", "FAL_"))}
        self.process = None
        self.start()

    def start(self):
        """Starts it; one that ends by itself, because the database is away, is started again by `call`."""
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )

    def kill(self):
        self.process.kill()
        self.process.wait()

    def kill_worker(self):
        """Kills its worker, if it has one at the moment."""
        for pid in children(self.process.pid):
            kill(pid)

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

    def wait_until_ready(self, limit):
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self.start()
            try:
                if self.call("GET", "/health/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        last = last_lines(self.log.name)
        sys.exit(f"the server on port {self.port} was not ready within {limit} s; its last lines:\n{last}")

    def count_requests(self):
        database = sqlite3.connect(f"file:{self.data / 'latentd.sqlite'}?mode=ro", uri=True)
        return database.execute("SELECT count(*) FROM requests").fetchone()[0]


class Postgres:
    """A PostgreSQL server of this run's own, on a Unix socket, whose commits are on the disk."""

    def __init__(self, folder):
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [""]
        self.programs = pathlib.Path(programs[-1])
        self.folder = folder
        self.url = f"postgres://latentd@localhost/latentd?host={folder}"
        folder.mkdir(mode=0o755)
        # It refuses to run as root.
        self.user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self.user:
            for place in (folder, folder.parent):
                place.chmod(0o755)
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        self.run("initdb", "-D", folder / "data", "-U", "latentd", "-A", "trust", "-E", "UTF8", "--locale=C")
        self.server = None
        self.start()
        self.psql("CREATE DATABASE latentd", database="postgres")

    def as_user(self):
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}

    def run(self, program, *arguments):
        command = [self.programs / program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, **self.as_user())
        if done.returncode != 0:
            raise OSError(done.stderr)
        return done.stdout

    def start(self):
        log = open(self.folder / "log", "ab")
        command = [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder, "-c", "listen_addresses="]
        self.server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            **self.as_user(),
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.server.poll() is None:
            try:
                return self.psql("SELECT 1", database="postgres")
            except OSError:
                time.sleep(0.1)
        sys.exit("PostgreSQL did not start; its last lines:\n" + last_lines(self.folder / "log"))

    def kill(self):
        """As a crash of the server: all of its processes end at once and write nothing more."""
        processes = [self.server.pid, *children(self.server.pid)]
        for pid in processes:
            kill(pid)
        self.server.wait()
        # Its children have sessions of their own; a new server must not start beside one that is still there.
        while any(is_running(pid) for pid in processes):
            time.sleep(0.01)
        # Their process ids may be in use again by then, and a new server would take the old one for running.
        for left in (self.folder / "data" / "postmaster.pid", self.folder / ".s.PGSQL.5432.lock"):
            left.unlink(missing_ok=True)

    def psql(self, statement, database="latentd"):
        return self.run("psql", "-h", self.folder, "-U", "latentd", "-d", database, "-AXtc", statement).strip()

    def count_requests(self):
        return int(self.psql("SELECT count(*) FROM requests"))
