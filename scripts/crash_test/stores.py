"""The servers that latentd keeps its data in: a PostgreSQL server, and a service that speaks S3."""

import glob
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import sys
import time

from .processes import Process, children, free_port, is_running, last_lines, send

START_LIMIT_S = 120


class Postgres:
    """A PostgreSQL server of this run's own, on a Unix socket and where given an address, whose commits are on the disk."""

    def __init__(self, folder, address=None):
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [""]
        self.programs = pathlib.Path(programs[-1])
        self.folder = folder
        self.address = address
        self.url = f"postgres://latentd@localhost/latentd?host={folder}"
        folder.mkdir(mode=0o755)
        # It refuses to run as root.
        self.user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self.user:
            for place in (folder, folder.parent):
                place.chmod(0o755)
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        self.run("initdb", "-D", folder / "data", "-U", "latentd", "-A", "trust", "-E", "UTF8", "--locale=C")
        if address:
            with open(folder / "data" / "pg_hba.conf", "a") as rules:
                rules.write(f"host all all {address}/24 trust\n")
        self.server = None
        self.start()
        self.psql("CREATE DATABASE latentd", database="postgres")

    def remote_url(self):
        """The same database by its address."""
        return f"postgres://latentd@{self.address}/latentd"

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
        addresses = f"listen_addresses={self.address or ''}"
        command = [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder, "-c", addresses]
        self.server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            **self.as_user(),
        )
        deadline = time.monotonic() + START_LIMIT_S
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
            send(signal.SIGKILL, pid)
        self.server.wait()
        # Its children have sessions of their own; a new server must not start beside one that is still there.
        while any(is_running(pid) for pid in processes):
            time.sleep(0.01)
        # Their process ids may be in use again by then, and a new server would take the old one for running.
        for left in (self.folder / "data" / "postmaster.pid", self.folder / ".s.PGSQL.5432.lock"):
            left.unlink(missing_ok=True)

    def restart_if_ended(self):
        """Only a kill ends it."""

    def psql(self, statement, database="latentd"):
        return self.run("psql", "-h", self.folder, "-U", "latentd", "-d", database, "-AXtc", statement).strip()

    def scalar(self, statement):
        """The one value that a statement finds, a number."""
        return int(self.psql(statement) or 0)


class Bucket(Process):
    """A service that speaks S3, with the one bucket `images`."""

    def __init__(self, program, folder, address="127.0.0.1"):
        (folder / "buckets" / "images").mkdir(parents=True)
        self.address = (address, free_port())
        host = f"{address}:{self.address[1]}"
        # The key that the service accepts.
        self.variables = {
            "AWS_ACCESS_KEY_ID": "latentd-tests", "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_ENDPOINT_URL": f"http://{host}", "AWS_ALLOW_HTTP": "true",
        }
        super().__init__([program, folder / "buckets", host], folder / "s3.log", {})

    def start(self):
        super().start()
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(self.address) == 0:
                    return
            self.restart_if_ended()
            time.sleep(0.05)
        sys.exit("the S3 service did not start; its last lines:\n" + self.last_lines())

    def restart_if_ended(self):
        if self.process.poll() is not None:
            super().start()
