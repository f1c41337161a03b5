"""`latentd run --allow-network`: calls to fal reach this server, all others leave as usual."""

import http.client
import http.server
import socket
import subprocess
import threading
import time
import urllib.request

import pytest
from test_programs import COMMANDS, ENDPOINT, INPUT, LATENTD, ORDINARY, PYTHON, environment, run

EITHER = pytest.mark.parametrize("prefix", [[], ORDINARY], ids=["root", "ordinary user"])
ALLOWED = ["--allow-network"]


@EITHER
@pytest.mark.parametrize("name", ["fal-client", "aiohttp with aiodns", "go", "@fal-ai/client, node24"])
def test_calls_to_fal_reach_this_server(data, capture, name, prefix):
    done = run(data, [*COMMANDS[name], ENDPOINT, INPUT], prefix=prefix, flags=ALLOWED)
    assert done.returncode == 0, done.stderr
    assert [packet for packet in capture.seen() if ":443" in packet] == []


@EITHER
def test_the_internet_is_reachable(data, capture, prefix):
    program = "import urllib.request as r; print(r.urlopen('http://example.com/').read())"
    done = run(data, [PYTHON, "-c", program], prefix=prefix, flags=ALLOWED)
    assert (done.returncode, done.stdout) == (0, "b'the internet'\n"), done.stderr
    assert {"udp 203.0.113.1:53", "tcp 203.0.113.1:80"} <= set(capture.seen())


@EITHER
def test_this_machine_is_reachable(data, prefix):
    """For example a database on the loopback interface."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # pasta scans for listening ports once a second.
    program = (
        "import sys, time, urllib.request\n"
        "for _ in range(300):\n"
        "    try:\n"
        "        raise SystemExit(urllib.request.urlopen(sys.argv[1]).status - 200)\n"
        "    except OSError:\n"
        "        time.sleep(0.1)\n"
        "raise SystemExit(3)\n"
    )
    url = f"http://127.0.0.1:{server.server_port}/"
    done = run(data, [PYTHON, "-c", program, url], prefix=prefix, flags=ALLOWED)
    server.shutdown()
    assert done.returncode == 0, done.stderr


def test_proxy_settings_stay_and_exclude_fals_hosts(data):
    done = run(
        data, ["sh", "-c", "echo $https_proxy; echo $NO_PROXY"], flags=ALLOWED,
        prefix=["env", "https_proxy=http://proxy.example:3128", "NO_PROXY=corp.example"],
    )
    proxy, direct = done.stdout.splitlines()
    assert proxy == "http://proxy.example:3128"
    assert {"corp.example", "fal.run", ".fal.run", "fal.media", ".fal.ai"} <= set(direct.split(","))


def test_the_program_is_reachable_from_this_machine(data):
    """For example a web page that it serves."""
    command = [*ORDINARY, LATENTD, "run", "--data-dir", data, *ALLOWED, "--", PYTHON, "-m", "http.server", "3999"]
    process = subprocess.Popen(command, env=environment(), cwd=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not is_reachable("http://127.0.0.1:3999/"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        # The ports of the relay are reachable only inside.
        for host in ("127.0.0.1", "203.0.113.2"):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, 443), timeout=5)
    finally:
        process.kill()
        process.wait()


def is_reachable(url):
    try:
        urllib.request.urlopen(url, timeout=5).close()
        return True
    except (OSError, http.client.HTTPException):
        return False
