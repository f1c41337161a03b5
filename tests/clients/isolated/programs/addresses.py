"""Connects to IP addresses by every protocol that an ordinary user may use, and prints OK if none can be reached:
203.0.113.1 is the internet of these tests, 10.0.0.1 and 2001:db8::1 do not exist."""

import errno
import socket

NOWHERE = {errno.ENETUNREACH, errno.EADDRNOTAVAIL}


def reach(family, kind, address):
    with socket.socket(family, kind) as unconnected:
        unconnected.settimeout(2)
        if kind == socket.SOCK_DGRAM:
            unconnected.sendto(b"anybody?", address)
        else:
            unconnected.connect(address)


for family, kind, address in [
    (socket.AF_INET, socket.SOCK_STREAM, ("203.0.113.1", 443)),
    (socket.AF_INET, socket.SOCK_STREAM, ("203.0.113.1", 80)),
    (socket.AF_INET, socket.SOCK_STREAM, ("10.0.0.1", 8080)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("203.0.113.1", 53)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("255.255.255.255", 9)),
    (socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 443)),
    (socket.AF_INET6, socket.SOCK_DGRAM, ("ff02::1", 9)),
]:
    try:
        reach(family, kind, address)
        raise SystemExit(f"reached {address}")
    except OSError as error:
        assert error.errno in NOWHERE | {errno.EACCES}, f"{address}: {error}"
for name in ("example.com", "fal.run.example.com", "notfal.run"):
    try:
        raise SystemExit(f"found {socket.getaddrinfo(name, 443)}")
    except socket.gaierror:
        pass
print("OK")
