"""The internet of network.py on one address: a name server that resolves every name to it, and an HTTP server."""

import http.server
import socket
import subprocess
import sys
import threading

ADDRESS = sys.argv[1]


def names(udp):
    while True:
        query, sender = udp.recvfrom(512)
        end = query.index(0, 12) + 5
        is_a = query[end - 4:end - 2] == b"\0\1"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(ADDRESS) if is_a else b""
        counts = b"\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
        udp.sendto(query[:2] + b"\x81\x80" + counts + query[12:end] + record, sender)


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "12")
        self.end_headers()
        self.wfile.write(b"the internet")

    def log_message(self, *_):
        pass


print("entered", flush=True)
sys.stdin.readline()
for words in ("link set lo up", f"address add {ADDRESS}/24 dev inside", "link set inside up"):
    subprocess.run(["ip", *words.split()], check=True)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((ADDRESS, 53))
threading.Thread(target=names, args=[udp], daemon=True).start()
server = http.server.ThreadingHTTPServer((ADDRESS, 80), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("answers", flush=True)
sys.stdin.read()
