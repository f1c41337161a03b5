"""`latentd run --allow-network`: fal's names lead here, everything else goes out as usual."""

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
def test_fal_is_here(data, witness, name, prefix):
    done = run(data, [*COMMANDS[name], ENDPOINT, INPUT], prefix=prefix, flags=ALLOWED)
    assert done.returncode == 0, done.stderr
    assert [packet for packet in witness.seen() if ":443" in packet] == []


@EITHER
def test_the_internet_is_there(data, witness, prefix):
    program = "import urllib.request as r; print(r.urlopen('http://example.com/').read())"
    done = run(data, [PYTHON, "-c", program], prefix=prefix, flags=ALLOWED)
    assert (done.returncode, done.stdout) == (0, "b'the internet'\n"), done.stderr
    assert {"udp 203.0.113.1:53", "tcp 203.0.113.1:80"} <= set(witness.seen())


@EITHER
def test_this_machine_is_there(data, prefix):
    """A program's database, say, on the loopback interface."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # pasta looks once a second which ports there are.
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


def test_proxies_stay_and_are_not_asked_for_fal(data):
    done = run(
        data, ["sh", "-c", "echo $https_proxy; echo $NO_PROXY"], flags=ALLOWED,
        prefix=["env", "https_proxy=http://proxy.example:3128", "NO_PROXY=corp.example"],
    )
    proxy, direct = done.stdout.splitlines()
    assert proxy == "http://proxy.example:3128"
    assert {"corp.example", "fal.run", ".fal.run", "fal.media", ".fal.ai"} <= set(direct.split(","))


def test_the_program_is_there_for_this_machine(data):
    """A page that it serves, say, for a browser."""
    command = [*ORDINARY, LATENTD, "run", "--data-dir", data, *ALLOWED, "--", PYTHON, "-m", "http.server", "3999"]
    process = subprocess.Popen(command, env=environment(), cwd=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not is_there("http://127.0.0.1:3999/"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        # Those of the relay are inside alone.
        for host in ("127.0.0.1", "203.0.113.2"):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, 443), timeout=5)
    finally:
        process.kill()
        process.wait()


def is_there(url):
    try:
        urllib.request.urlopen(url, timeout=5).close()
        return True
    except (OSError, http.client.HTTPException):
        return False
