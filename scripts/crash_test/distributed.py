"""Topologies of several hosts, which share a PostgreSQL database and a bucket of an S3 service."""

import functools
import time

from .network import Cable
from .processes import Server, Worker
from .stores import Bucket, Postgres
from .topology import AWAY_S, Topology

# A lease ends 60 s after the worker's last sign of life, and fifteen checks in a row must find it over.
LEASE_S, CHECKS_S = 60, 15
STORAGE = "s3://images/files"


class Distributed(Topology):
    """Gateways and workers, each with a data directory of its own."""

    def __init__(self, name, folder, s3, address, environment, expire_leases):
        super().__init__()
        self.name = name + (", leases ended early" if expire_leases else "")
        self.folder = folder
        self.expire_leases = expire_leases
        self.database = Postgres(folder / "database", address)
        self.bucket = Bucket(s3, folder, address or "127.0.0.1")
        self.stores = [self.database, self.bucket]
        self.environment = environment | self.bucket.variables

    def gateway(self, binary, name):
        flags = ["--workers", "0", "--database-url", self.database.url, "--storage", STORAGE]
        return Server(binary, self.folder, name, flags, self.environment)

    def worker(self, binary, name, url, prefix=()):
        flags = ["--device", "cpu", "--data-dir", self.folder / name, "--database-url", url, "--storage", STORAGE]
        return Worker([binary, "worker", *flags], self.folder / f"{name}.log", self.environment, prefix)

    def scalar(self, statement):
        return self.database.scalar(statement)

    def disturb_database(self, chance):
        self.database.kill()
        time.sleep(chance.uniform(0, AWAY_S))
        self.database.start()

    def disturb_storage(self, chance):
        self.bucket.kill()
        time.sleep(chance.uniform(0, AWAY_S))
        self.bucket.start()

    def wait_until_busy(self, workers):
        """One of these that has worked on its request for a moment; the first where none does within ten seconds."""
        statement = "SELECT count(*) FROM states JOIN requests ON requests.id = request WHERE worker = '{}'"
        for _ in range(100):
            for worker in workers:
                if worker.id() and self.scalar(statement.format(worker.id())):
                    return worker
            time.sleep(0.1)
        return workers[0]

    def away(self, worker, chance, comes_back):
        """A worker that is silent from now on, until its lease is over for everybody."""
        lease = (0 if self.expire_leases else LEASE_S) + CHECKS_S + chance.uniform(3, 8)
        self.expire(worker.id())
        self.later.append((time.monotonic() + lease, functools.partial(self.back, worker, comes_back)))

    def back(self, worker, comes_back):
        comes_back()
        self.returned.append((worker.id(), time.time()))

    def expire(self, worker):
        """The lease of a worker that writes no more ends now instead of in 60 s."""
        if self.expire_leases and worker:
            self.database.psql(f"UPDATE requests SET lease_until = 0 WHERE worker = '{worker}' AND state = 'running'")

    def count_returned(self):
        """How many of the workers that were away have claimed a request since."""
        started = "SELECT count(*) FROM requests WHERE worker = '{}' AND started_at > {:.0f}"
        return sum(self.scalar(started.format(name, at * 1e6)) > 0 for name, at in self.returned)


class Cluster(Distributed):
    """Two gateways and three workers, each killed or suspended alone."""

    def __init__(self, binary, s3, folder, environment, expire_leases):
        name = "cluster: two gateways, three workers, PostgreSQL, S3"
        super().__init__(name, folder, s3, None, environment, expire_leases)
        self.targets = ["worker", "worker", "stop", "server", "database", "storage"]
        self.servers = [self.gateway(binary, name) for name in ("gateway-1", "gateway-2")]
        self.workers = [self.worker(binary, f"worker-{number}", self.database.url) for number in (1, 2, 3)]

    def disturb_worker(self, chance):
        """Kills one. Nobody notices before its lease is over."""
        worker = chance.choice([worker for worker in self.workers if not worker.stopped])
        name = worker.id()
        worker.kill()
        self.expire(name)
        worker.start()

    def disturb_stop(self, chance):
        """Suspends a worker that works, until another one has its request, and lets it go on."""
        if any(worker.stopped for worker in self.workers):
            return self.disturb_worker(chance)
        worker = self.wait_until_busy(chance.sample(self.workers, len(self.workers)))
        worker.stop()
        self.away(worker, chance, worker.go_on)


class TwoHosts(Distributed):
    """Everything on one host, and on another a worker that has only the cable between them."""

    def __init__(self, binary, s3, folder, environment, expire_leases):
        self.cable = Cable()
        name = "two hosts: a gateway, two workers, PostgreSQL, S3"
        super().__init__(name, folder, s3, self.cable.NEAR, environment, expire_leases)
        self.targets = ["cable", "address"]
        self.servers = [self.gateway(binary, "gateway")]
        self.far = self.worker(binary, "far-worker", self.database.remote_url(), self.cable.prefix)
        self.workers = [self.worker(binary, "near-worker", self.database.url), self.far]

    def disturb_cable(self, chance):
        """Pulls it while the far worker works, until the near one has its request, and plugs it in again."""
        self.pull(chance, self.cable.plug_in)

    def disturb_address(self, chance):
        """The same, and the far host comes back with another address."""
        self.pull(chance, self.cable.plug_in_elsewhere)

    def pull(self, chance, plug_in):
        while self.later:
            self.sleep(0.1)
        self.wait_until_busy([self.far])
        self.cable.pull()
        self.away(self.far, chance, plug_in)

    def end(self):
        super().end()
        self.cable.end()
