"""`latentd run` with programs of many languages: each generates by fal's own names, and not one packet leaves. The same
programs without `latentd run` are seen to go out: the witness is not blind."""

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
# An ordinary user, who is no other than the one that runs the tests as far as files go.
ORDINARY = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]

# What a program sends to reach fal: it asks for an address, or has it.
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
    """A program under `latentd run`; what it printed and how it ended."""
    command = [*prefix, LATENTD, "run", "--data-dir", data, *flags, "--", *command]
    return subprocess.run(
        command, env=environment(), cwd=HERE, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, **options
    )


def environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LATENTD_", "FAL_"))}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1", "FAL_KEY": "key:of-fal"}


def without_us(command, witness):
    """What a program sends first that nobody keeps in: a question for a name, or the beginning of a connection."""
    process = subprocess.Popen(
        command, env=environment(), cwd=HERE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )
    deadline, seen = time.monotonic() + 60, set()
    while not seen & LEFT and time.monotonic() < deadline:
        time.sleep(0.01)
        seen |= set(witness.seen())
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    witness.seen()
    return seen


@pytest.mark.parametrize("name", COMMANDS)
def test_everything_is_answered_here(data, witness, name):
    command = [*COMMANDS[name], ENDPOINT, INPUT]
    done = run(data, command, prefix=ORDINARY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK" in done.stdout or len(json.loads(done.stdout)["pictures"]) == 4
    assert witness.seen() == []
    assert without_us(command, witness) & LEFT


@pytest.mark.parametrize("prefix", [[], ORDINARY], ids=["root", "ordinary user"])
def test_no_address_can_be_reached(data, witness, prefix):
    done = run(data, [PYTHON, PROGRAMS / "addresses.py"], prefix=prefix)
    assert (done.returncode, done.stdout) == (0, "OK\n"), done.stderr
    assert witness.seen() == []
    assert "tcp 203.0.113.1:443" in without_us([PYTHON, PROGRAMS / "addresses.py"], witness)


def test_root_is_answered_too(data, witness):
    done = run(data, [*COMMANDS["python -I"], ENDPOINT, INPUT])
    assert (done.returncode, done.stdout) == (0, "OK\n"), done.stderr
    assert witness.seen() == []


def test_what_a_shell_of_latentd_env_has_is_taken_back(data, witness):
    script = f'eval "$({LATENTD} env --data-dir {shlex.quote(str(data))})" && exec "$@"'
    for command in (COMMANDS["fal-client"], COMMANDS["@fal-ai/client, node24"]):
        done = run(data, [*command, ENDPOINT, INPUT], prefix=["sh", "-c", script, "sh"])
        assert done.returncode == 0, done.stderr
    assert witness.seen() == []


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


def test_the_port_of_fal_is_no_proxy(data):
    """The server's port is one, which with `--intercept-tunnel` leads everywhere."""
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
