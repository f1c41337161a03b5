"""The processes of a run, and how each kind of them is disturbed."""

import time

from .processes import Server
from .stores import Postgres

# A killed process is back, and every accepted request is over, within this.
LIMIT_S = 300
# The database or the storage stays away for up to this.
AWAY_S = 3


class Topology:
    """Servers, workers and stores. Whatever ends by itself is started again; what is stopped or cut is let go later."""

    def __init__(self):
        self.name = ""
        self.servers, self.workers, self.stores = [], [], []
        self.targets = []
        # Of attempts at one request; the third death ends it.
        self.most_deaths = 2
        # What ends a disturbance, with its time; and when each worker that was away returned.
        self.later, self.returned = [], []

    def disturb(self, target, chance):
        """Disturbs one of the target's processes; True if it is a worker that is started again without a pause."""
        return getattr(self, f"disturb_{target}")(chance)

    def disturb_server(self, chance):
        server = chance.choice(self.servers)
        server.kill()
        server.start()

    def tend(self):
        """To be called often."""
        for due, end in list(self.later):
            if time.monotonic() >= due:
                self.later.remove((due, end))
                end()
        for process in [*self.servers, *self.workers]:
            process.restart_if_ended()

    def sleep(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.tend()
            time.sleep(0.1)

    def wait_until_ready(self):
        """Ends every disturbance that is under way, and waits for the servers."""
        while self.later:
            self.sleep(0.1)
        for server in self.servers:
            server.wait_until_ready(LIMIT_S)

    def wait_until_returned(self, limit):
        """How many of the workers that were away have claimed a request since, once all have or at the limit."""
        deadline = time.monotonic() + limit
        while (count := self.count_returned()) < len(self.returned) and time.monotonic() < deadline:
            self.sleep(0.5)
        return count

    def count_returned(self):
        return 0

    def drain(self):
        """Afterwards no worker writes any more, not even one whose request was given to another."""
        for worker in self.workers:
            worker.drain(LIMIT_S)

    def scalar(self, statement):
        return self.servers[0].scalar(statement)

    def end(self):
        for process in [*self.servers, *self.workers, *self.stores]:
            process.kill()


class Host(Topology):
    """One machine: a server with a worker of its own on SQLite, or two of them on PostgreSQL with one folder of files."""

    def __init__(self, binary, folder, engine, environment):
        super().__init__()
        self.targets = ["worker", "worker", "server"]
        self.name = f"{engine}, " + ("two servers" if engine == "postgres" else "one server")
        flags, names = ["--workers", "1"], ["server"]
        if engine == "postgres":
            self.stores = [Postgres(folder / "database")]
            self.targets.append("database")
            flags += ["--database-url", self.stores[0].url, "--storage", folder / "files"]
            names = ["server-1", "server-2"]
        self.servers = [Server(binary, folder, name, flags, environment) for name in names]

    def disturb_worker(self, chance):
        return chance.choice(self.servers).kill_worker()

    def disturb_database(self, chance):
        self.stores[0].kill()
        time.sleep(chance.uniform(0, AWAY_S))
        self.stores[0].start()

    def drain(self):
        """Its workers are the servers' and were never given up while they lived."""

    def scalar(self, statement):
        return self.stores[0].scalar(statement) if self.stores else super().scalar(statement)
