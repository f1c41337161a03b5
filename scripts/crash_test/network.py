"""Two network namespaces with a cable between them, which can be pulled: this process is on the near side."""

import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000


def ip(words):
    subprocess.run(["ip", *words.split()], check=True)


class Cable:
    """The near side has a switch, so that pulling the cable takes no interface away there: packets vanish unanswered."""

    NEAR, FAR = "10.77.0.1", "10.77.0.2"

    def __init__(self):
        self.far = self.FAR
        self.moves = 0
        self.enter()

    def enter(self):
        """Moves this process, and those that it starts from now on, into the near namespace."""
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise SystemExit(f"no network namespace: {reason}; be root, or run this by `unshare --map-root-user`")
        # It lasts as long as this process.
        host = ["unshare", "--net", "sh", "-c", "echo entered; exec cat"]
        self.host = subprocess.Popen(host, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.host.stdout.readline() != "entered\n":
            raise SystemExit("no second network namespace")
        # What a process is started with, to be on the far side.
        self.prefix = ["nsenter", f"--net=/proc/{self.host.pid}/ns/net"]
        ip("link set lo up")
        ip("link add switch type bridge")
        # A second port: without one that is up the switch itself would be down.
        ip("link add unused type veth peer name nothing")
        ip("link set nothing up")
        ip(f"link add cable type veth peer name cable netns {self.host.pid}")
        for port in ("unused", "cable"):
            ip(f"link set {port} master switch")
            ip(f"link set {port} up")
        ip(f"address add {self.NEAR}/24 dev switch")
        ip("link set switch up")
        for words in ("link set lo up", f"address add {self.FAR}/24 dev cable", "link set cable up"):
            subprocess.run([*self.prefix, "ip", *words.split()], check=True)

    def pull(self):
        ip("link set cable down")

    def plug_in(self):
        ip("link set cable up")

    def plug_in_elsewhere(self):
        """As after a change of networks: the far host has another address. Nobody tells the connections of the old one."""
        self.moves += 1
        old, self.far = self.far, f"10.77.0.{2 + self.moves}"
        for words in (f"address del {old}/24 dev cable", f"address add {self.far}/24 dev cable"):
            subprocess.run([*self.prefix, "ip", *words.split()], check=True)
        self.plug_in()

    def end(self):
        self.host.kill()
        self.host.wait()
