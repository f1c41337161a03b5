#!/usr/bin/env python3
"""How fast files are stored and served, and what memory that takes, in a directory and in a bucket on this machine.

    cargo build && cargo build --example s3-stand-in && benches/storage.py [PORT]

Starts `latentd serve --workers 0` with each storage, sends and reads images of 1.5 MB one after the other, one file of 200 MB,
and 16 files of 30 MB at once, and prints a table. Memory is the most that the server had resident. CARGO_TARGET_DIR is used
when it is set, and LATENTD_PROFILE says which build (default: debug).
"""

import concurrent.futures
import http.client
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / os.environ.get("LATENTD_PROFILE", "debug")
PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 27900
MB = 1_000_000


def call(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=300)
    connection.request(method, path, body, {"content-type": "application/octet-stream"})
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, (answer.status, content[:300])
    return content


def upload(body):
    url = re.search(rb'"access_url":"[^"]*?(/files/[^"]*)"', call("POST", "/files/upload", body))
    return url.group(1).decode()


def peak(server):
    status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+)", status).group(1)) / 1000


def timed(work):
    begun = time.monotonic()
    result = work()
    return time.monotonic() - begun, result


def measure(name, data, storage, environment):
    command = [BUILD / "latentd", "serve", "--workers", "0", "--listen", f"127.0.0.1:{PORT}", "--data-dir", data]
    server = subprocess.Popen([*command, *storage], env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                call("GET", "/health/live")
                break
            except OSError:
                time.sleep(0.1)
        rest = peak(server)
        image, large, many = (os.urandom(size) for size in (1_500_000, 200 * MB, 30 * MB))
        stored, urls = timed(lambda: [upload(image) for _ in range(40)])
        served, bodies = timed(lambda: [call("GET", url) for url in urls])
        assert all(body == image for body in bodies)
        print(f"| {name} | 1.5 MB | {stored / 40 * 1000:.1f} ms | {served / 40 * 1000:.1f} ms | {peak(server) - rest:.0f} MB |")
        stored, url = timed(lambda: upload(large))
        served, body = timed(lambda: call("GET", url))
        assert body == large
        rate = lambda seconds: f"{seconds:.2f} s, {200 / seconds:.0f} MB/s"
        print(f"| {name} | 200 MB | {rate(stored)} | {rate(served)} | {peak(server) - rest:.0f} MB |")
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            stored, urls = timed(lambda: list(pool.map(upload, [many] * 16)))
            served, bodies = timed(lambda: list(pool.map(lambda url: call("GET", url), urls)))
        assert all(body == many for body in bodies)
        rate = lambda seconds: f"{seconds:.2f} s, {480 / seconds:.0f} MB/s"
        print(f"| {name} | 16 x 30 MB at once | {rate(stored)} | {rate(served)} | {peak(server) - rest:.0f} MB |", flush=True)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def main():
    print("| storage | file | store | serve | memory above rest |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        data, root = (pathlib.Path(directory) / name for name in ("data", "s3"))
        measure("directory", data, [], {})
        (root / "images").mkdir(parents=True)
        stand_in = subprocess.Popen([BUILD / "examples/s3-stand-in", root], stdout=subprocess.PIPE, text=True)
        try:
            storage = f"s3://images/p?allow-http=true&endpoint={stand_in.stdout.readline().strip()}"
            key = {"AWS_ACCESS_KEY_ID": "latentd-tests", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
            measure("bucket", data.with_name("data-s3"), ["--storage", storage], key)
        finally:
            stand_in.kill()


main()
