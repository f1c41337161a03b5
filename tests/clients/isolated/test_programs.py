"""`latentd run` with programs of many languages: each generates by fal's host names, and no packet leaves. Without
`latentd run` the capture sees packets of the same programs, which shows that it works."""

import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
MODULES = HERE / "node_modules"
LATENTD = os.environ["LATENTD_BIN"]
ENDPOINT = "fal-ai/stable-diffusion-v35-large"
INPUT = json.dumps({"prompt": "a lighthouse", "image_size": {"width": 128, "height": 96}, "num_inference_steps": 1})
PYTHON = sys.executable
NODES = {f"node{version}": MODULES / f"node{version}/bin/node" for version in (18, 22, 24, 26)}
NODES["node"] = shutil.which("node")
BUN, DENO = MODULES / ".bin/bun", MODULES / ".bin/deno"
DENO_RUN = ["run", "--quiet", "--allow-all", "--node-modules-dir=manual"]
JAVA = shutil.which("java")
# An ordinary user, who has the file permissions of the user that runs the tests.
ORDINARY = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]

# The first packet of a program that calls fal: a DNS query, or a TCP connection.
LEFT = {"udp 203.0.113.1:53", "tcp 203.0.113.1:443"}

COMMANDS = {
    "fal-client": [PYTHON, HERE.parent / "python/programs/unmodified.py"],
    "requests and httpx": [PYTHON, PROGRAMS / "requests_and_httpx.py"],
    "aiohttp with aiodns": [PYTHON, PROGRAMS / "aiodns_resolver.py"],
    "python -I": [PYTHON, "-I", PROGRAMS / "standard_library.py"],
    **{f"@fal-ai/client, {name}": [node, PROGRAMS / "client.mjs"] for name, node in NODES.items()},
    "undici's dns interceptor": [NODES["node22"], PROGRAMS / "dns_interceptor.mjs"],
    "c-ares in node, with options of its own": ["env", "NODE_OPTIONS=--max-old-space-size=512", NODES["node"], PROGRAMS / "c_ares.mjs"],
    "@fal-ai/client, bun": [BUN, PROGRAMS / "client.mjs"],
    "@fal-ai/client, deno": [DENO, *DENO_RUN, PROGRAMS / "client.mjs"],
    "go": [os.environ["GO_PROGRAM"]],
    "java": [JAVA, PROGRAMS / "Main.java"],
    "curl": ["sh", PROGRAMS / "curl.sh"],
}


def run(data, command, *, prefix=(), flags=(), **options):
    """Runs a program under `latentd run`; returns its output and exit code."""
    command = [*prefix, LATENTD, "run", "--data-dir", data, *flags, "--", *command]
    return subprocess.run(
        command, env=environment(), cwd=HERE, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, **options
    )


def environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LATENTD_", "FAL_"))}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1", "FAL_KEY": "key:of-fal"}


def run_without_latentd(command, capture):
    """The packets of a program without `latentd run`, up to the first DNS query or TCP connection."""
    process = subprocess.Popen(
        command, env=environment(), cwd=HERE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )
    deadline, seen = time.monotonic() + 60, set()
    while not seen & LEFT and time.monotonic() < deadline:
        time.sleep(0.01)
        seen |= set(capture.seen())
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    capture.seen()
    return seen


@pytest.mark.parametrize("name", COMMANDS)
def test_every_call_is_answered_here(data, capture, name):
    command = [*COMMANDS[name], ENDPOINT, INPUT]
    done = run(data, command, prefix=ORDINARY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK" in done.stdout or len(json.loads(done.stdout)["images"]) == 4
    assert capture.seen() == []
    assert run_without_latentd(command, capture) & LEFT


@pytest.mark.parametrize("prefix", [[], ORDINARY], ids=["root", "ordinary user"])
def test_no_address_can_be_reached(data, capture, prefix):
    done = run(data, [PYTHON, PROGRAMS / "addresses.py"], prefix=prefix)
    assert (done.returncode, done.stdout) == (0, "OK\n"), done.stderr
    assert capture.seen() == []
    assert "tcp 203.0.113.1:443" in run_without_latentd([PYTHON, PROGRAMS / "addresses.py"], capture)


def test_root_is_answered_too(data, capture):
    done = run(data, [*COMMANDS["python -I"], ENDPOINT, INPUT])
    assert (done.returncode, done.stdout) == (0, "OK\n"), done.stderr
    assert capture.seen() == []


def test_the_environment_of_latentd_env_is_replaced(data, capture):
    script = f'eval "$({LATENTD} env --data-dir {shlex.quote(str(data))})" && exec "$@"'
    for command in (COMMANDS["fal-client"], COMMANDS["@fal-ai/client, node24"]):
        done = run(data, [*command, ENDPOINT, INPUT], prefix=["sh", "-c", script, "sh"])
        assert done.returncode == 0, done.stderr
    assert capture.seen() == []


def test_bun_trusts_the_certificate_also_by_latentd_env(data):
    script = f'eval "$({LATENTD} env --data-dir {shlex.quote(str(data))})" && exec "$@"'
    command = ["sh", "-c", script, "sh", *COMMANDS["@fal-ai/client, bun"], ENDPOINT, INPUT]
    done = subprocess.run(command, env=environment(), cwd=HERE, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "OK\n"), done.stderr


def test_openssl_finds_the_authority_in_the_directory_of_certificates(data):
    program = (
        "import socket, ssl\n"
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n"
        "context.load_verify_locations(capath='/etc/ssl/certs')\n"
        "with socket.create_connection(('rest.alpha.fal.ai', 443)) as plain:\n"
        "    context.wrap_socket(plain, server_hostname='rest.alpha.fal.ai').close()\n"
        "print('OK')\n"
    )
    done = run(data, ["env", "-i", PYTHON, "-c", program], prefix=ORDINARY)
    assert (done.returncode, done.stdout) == (0, "OK\n"), done.stderr


def test_the_intercepted_port_is_no_proxy(data):
    """The server's own intercept port is a proxy, with `--intercept-tunnel` to every host."""
    program = (
        "import socket\n"
        "with socket.create_connection(('fal.run', 443)) as plain:\n"
        "    plain.sendall(b'CONNECT example.com:443 HTTP/1.1\\r\\nHost: example.com:443\\r\\n\\r\\n')\n"
        "    try:\n"
        "        print(plain.recv(100))\n"
        "    except ConnectionResetError:\n"
        "        print(b'')\n"
    )
    done = run(data, [PYTHON, "-c", program], prefix=ORDINARY)
    assert (done.returncode, done.stdout) == (0, "b''\n"), done.stderr
