"""`latentd run --allow-network`: fal's names lead here, everything else goes out as usual."""

import http.server
import threading

import pytest
from test_programs import COMMANDS, ENDPOINT, INPUT, ORDINARY, PYTHON, run

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
