"""Power cuts: what a directory may hold afterwards, from a record of what a program wrote and synced (recorder.c)."""

import copy
import dataclasses
import pathlib
import struct
import subprocess
import sys
import time

from .processes import NotReady, Server
from .topology import Topology

HEADER = struct.Struct("<QQqIIII")
# A write may be torn between these.
SECTOR = 4096
# Needed by the running program alone: SQLite makes its index anew, and a lock is let go by the power cut.
NOT_KEPT = ("-shm", "lock")


@dataclasses.dataclass
class Event:
    """A record; `at` in seconds of `time.monotonic()`."""

    at: float
    kind: str
    inode: int
    offset: int
    path: str
    data: bytes


def read_events(path):
    log, at, events = pathlib.Path(path).read_bytes(), 0, []
    while at < len(log):
        nanoseconds, inode, offset, kind, path_length, length, _ = HEADER.unpack_from(log, at)
        at += HEADER.size
        name = log[at:at + path_length].decode()
        events.append(Event(nanoseconds / 1e9, chr(kind), inode, offset, name, log[at + path_length:at + path_length + length]))
        at += path_length + length
    return events


class Disk:
    """The files and directories that the events so far made durable, and what a power cut may take away."""

    def __init__(self, root):
        # By number of a file: what is durable, and writes that are not. Inodes are used again, numbers are not.
        self.contents, self.unsynced = [], []
        self.number_of_inode = {}
        # By path, the numbers of files: what is durable, what a program sees, and changes that are not durable.
        self.entries, self.visible, self.unsynced_entries = {}, {}, []
        self.directories = {root}

    def apply(self, event):
        if event.kind in "cd":
            self.number_of_inode[event.inode] = len(self.contents)
            self.make_entry([(event.path, len(self.contents))])
            self.contents.append(bytearray())
            self.unsynced.append([])
            self.directories |= {event.path} if event.kind == "d" else set()
        elif event.kind == "r":
            to = event.data.decode()
            self.make_entry([(to, self.visible.get(event.path)), (event.path, None)])
        elif event.kind == "l":
            self.make_entry([(event.data.decode(), self.visible.get(event.path))])
        elif event.kind == "u":
            self.make_entry([(event.path, None)])
        elif event.kind == "s" and event.path in self.directories:
            self.sync_entries(event.path)
        elif event.inode in self.number_of_inode:  # not the log of the program's messages, which was there before it
            number = self.number_of_inode[event.inode]
            self.unsynced[number].append(event)
            if event.kind == "s":
                self.sync(number)

    def sync(self, number):
        for one in self.unsynced[number][:-1]:
            write(self.contents[number], one.kind, one.offset, one.data)
        self.unsynced[number] = []

    def make_entry(self, changes):
        """Entries that are made or removed at once, all in one directory."""
        self.visible.update(changes)
        self.unsynced_entries.append(changes)

    def sync_entries(self, directory):
        parent = lambda changes: changes[0][0].rpartition("/")[0]  # noqa: E731
        for changes in self.unsynced_entries:
            if parent(changes) == directory:
                self.entries.update(changes)
        self.unsynced_entries = [changes for changes in self.unsynced_entries if parent(changes) != directory]

    def cut(self, chance):
        """What is there after a cut now: nothing that is not synced, or any part of it, by sectors and in any order."""
        entries, contents = dict(self.entries), [bytearray(data) for data in self.contents]
        if chance.random() < 0.5:
            return entries, contents
        for changes in self.unsynced_entries[:chance.randrange(len(self.unsynced_entries) + 1)]:
            entries.update(changes)
        for content, events in zip(contents, self.unsynced):
            for event in events:
                for offset, data in pieces(event):
                    if chance.random() < 0.5:
                        write(content, event.kind, offset, data)
        return entries, contents


def pieces(event):
    if event.kind == "t":
        return [(event.offset, b"")]
    return [(event.offset + at, event.data[at:at + SECTOR]) for at in range(0, len(event.data), SECTOR)]


def write(content, kind, offset, data):
    if kind == "t":
        del content[offset:]
    content.extend(bytes(max(0, offset + len(data) - len(content))))
    content[offset:offset + len(data)] = data


class Recorded(Topology):
    """A server on SQLite and a directory, with one worker, everything of which is recorded from its first start on."""

    def __init__(self, binary, folder, environment):
        super().__init__()
        self.name = "power cuts: sqlite, one server"
        self.binary, self.folder, self.environment = binary, folder, environment
        library, self.log = folder / "recorder.so", folder / "record"
        source = pathlib.Path(__file__).with_name("recorder.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        disk = self.disk = folder / "disk"
        disk.mkdir()
        variables = {"LD_PRELOAD": str(library), "RECORD": str(self.log), "RECORD_BELOW": str(disk)}
        self.servers = [Server(binary, disk, "server", ["--workers", "1"], environment | variables)]
        self.targets = ["worker"]
        self.most_deaths = 1  # the power cut is one more

    def disturb_worker(self, chance):
        return chance.choice(self.servers).kill_worker()

    def cuts(self, chance, count, accepted):
        """The moments of power cuts, as numbers of events: one while the server starts, the others alternately at any
        event and beside any sync."""
        events = read_events(self.log)
        first = min(one.accepted_at for one in accepted)
        syncs = [number for number, event in enumerate(events) if event.kind == "s"]
        early = [number for number in syncs if events[number].at < first] or [0]
        any_event, beside_sync = lambda: chance.randrange(len(events)), lambda: chance.choice(syncs) + chance.randrange(2)
        later = [any_event() if number % 2 else beside_sync() for number in range(1, count)]
        return events, sorted([chance.choice(early), *later])

    def after_cut(self, events, number, chance, name, limit):
        """A server on what is there after a power cut before this event; raises NotReady where none can use that."""
        root = str(self.disk)
        disk = Disk(root)
        for event in events[:number]:
            disk.apply(event)
        folder = self.folder / name
        entries, contents = disk.cut(chance)
        place = lambda path: folder / pathlib.Path(path).relative_to(root)  # noqa: E731
        folder.mkdir()
        for path, file in sorted(entries.items()):
            if file is None or path.endswith(NOT_KEPT) or not place(path).parent.is_dir():
                continue
            if path in disk.directories:
                place(path).mkdir(mode=0o700)
            else:
                place(path).write_bytes(contents[file])
                place(path).chmod(0o600)
        server = Server(self.binary, folder, "server", ["--workers", "1"], {})
        try:
            server.wait_until_ready(limit)
        except NotReady:
            server.kill()
            raise
        return server


def check_cuts(topology, clients, chance, count, limit):
    """Cuts the power so often, in the record of a run that is over; the requests as each cut left them."""
    topology.end()
    accepted, messages = dict(clients.accepted), copy.deepcopy(clients.receiver.accepted)
    events, cuts = topology.cuts(chance, count, accepted.values())
    found = []
    for index, number in enumerate(cuts):
        at = events[number].at if number < len(events) else time.monotonic()
        # What the client knew by then.
        clients.accepted = {key: one.as_of(at) for key, one in accepted.items() if one.accepted_at < at}
        clients.receiver.restore(messages, at)
        try:
            server = topology.after_cut(events, number, chance, f"cut-{index}", limit)
        except NotReady as error:
            print(error, file=sys.stderr)
            for one in clients.accepted.values():
                one.outcome = "lost"
            found += clients.accepted.values()
            continue
        clients.servers = [server]
        try:
            clients.wait_until_over(limit)
            found += clients.judge()
        finally:
            server.kill()
    return found
