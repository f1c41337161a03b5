"""The network of these tests: their processes run in a network namespace whose only route leads to a second namespace,
"the internet", where every name resolves to one address. A packet capture sees every packet that is sent there."""

import contextlib
import ctypes
import os
import pathlib
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
NEAR, FAR = "203.0.113.2", "203.0.113.1"
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
ETH_P_ALL, PACKET_OUTGOING = 3, 4
WITHIN_S = 30


def enter():
    """Moves this process, and those that it starts from now on, into the namespace. The internet ends with this process."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "these tests must be root, or run by `unshare --map-root-user`")
    ip("link set lo up")
    internet = subprocess.Popen(
        ["unshare", "--net", "--kill-child", sys.executable, HERE / "internet.py", FAR],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    assert internet.stdout.readline() == "entered\n"
    ip("link add outside type veth peer name inside netns " + str(child_of(internet.pid)))
    pathlib.Path("/proc/sys/net/ipv6/conf/outside/disable_ipv6").write_text("1")
    ip(f"address add {NEAR}/24 dev outside")
    ip("link set outside up")
    ip(f"route add default via {FAR}")
    print("the interface is there", file=internet.stdin, flush=True)
    assert internet.stdout.readline() == "answers\n"
    resolv_conf = pathlib.Path(os.environ["LATENTD_TEST_DIRECTORY"]) / "resolv.conf"
    resolv_conf.write_text(f"nameserver {FAR}\noptions timeout:5 attempts:1\n")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", resolv_conf, "/etc/resolv.conf"], check=True)
    return internet


def ip(words):
    subprocess.run(["ip", *words.split()], check=True)


def child_of(pid):
    """The process in the namespace: `unshare --kill-child` is its parent."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


class PacketCapture:
    """The packets that left the namespace since the last call of `seen`, of any process and protocol."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind(("outside", 0))
        self.socket.setblocking(False)

    def seen(self):
        packets = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, (_, _, kind, *_) = self.socket.recvfrom(65536)
                # ARP requests are left out: the kernel sends them for a packet that is captured itself.
                if kind == PACKET_OUTGOING and frame[12:14] != b"\x08\x06":
                    packets.append(describe(frame[14:]))
        return packets


def describe(packet):
    """Protocol, address and port of an IPv4 packet; the bytes of any other."""
    if packet[0] >> 4 != 4:
        return packet.hex()
    length = (packet[0] & 15) * 4
    protocol = {6: "tcp", 17: "udp"}.get(packet[9], packet[9])
    return f"{protocol} {socket.inet_ntoa(packet[16:20])}:{int.from_bytes(packet[length + 2:length + 4])}"


@contextlib.contextmanager
def server(program, data, *flags):
    """A server in the namespace, ready to generate."""
    command = [program, "serve", "--listen", "127.0.0.1:8080", "--intercept", "127.0.0.1:8443", "--log", "warn"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LATENTD_", "FAL_"))}
    process = subprocess.Popen([*command, "--data-dir", data, *flags], env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 4 * WITHIN_S
        while not is_ready():
            assert process.poll() is None and time.monotonic() < deadline, "the server was not ready"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        assert process.wait(WITHIN_S) == 0


def is_ready():
    try:
        with socket.create_connection(("127.0.0.1", 8080), timeout=5) as connection:
            connection.sendall(b"GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return connection.makefile("rb").readline().split()[1] == b"200"
    except (OSError, IndexError):
        return False
