"""Checks the OpenAPI document with a validator, and with a fuzzer that calls the server as the document describes."""

import os
import pathlib
import re
import subprocess
import sys
import time

import pytest
import requests
from openapi_spec_validator import OpenAPIV31SpecValidator

HERE = pathlib.Path(__file__).resolve().parent
URL = os.environ["LATENTD_URL"]
PROGRAM = os.environ["LATENTD_BIN"]
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith(("LATENTD_", "SCHEMATHESIS_"))}
KEY = "fuzzer:secret"

# Operations that respond when their request ends: fuzzed against a server that generates. The variants with the input
# in the query are left out, since they run the same code.
GENERATING = "^(run|createImage)(?!.*ByQuery)"
# Operations that never end on a server without a worker, and the one that ends the server.
ENDLESS = "^(run|createImage|statusStream$|drain$)"

ENDPOINTS = ("stable-diffusion-v35-large", "stable-diffusion-v35-large/turbo", "stable-diffusion-v35-medium")


@pytest.mark.parametrize("query", ["", *(f"?endpoint_id=fal-ai/{endpoint}" for endpoint in ENDPOINTS)])
def test_the_document_is_valid(query):
    OpenAPIV31SpecValidator(requests.get(f"{URL}/openapi.json{query}").json()).validate()


@pytest.fixture
def idle_server(tmp_path):
    """A server that accepts requests, requires a key, and has no worker."""
    command = [PROGRAM, "serve", "--listen", "127.0.0.1:0", "--workers", "0", "--log", "error"]
    command += ["--api-key", KEY, "--data-dir", tmp_path]
    process = subprocess.Popen(command, env=PLAIN, stdout=subprocess.PIPE, text=True)
    url = re.search(r"http://\S+", process.stdout.readline())[0]
    while requests.get(f"{url}/health/live").status_code != 200:
        time.sleep(0.05)
    yield url
    process.terminate()
    assert process.wait(20) == 0


def test_responses_without_a_worker_match_the_document(idle_server):
    left_out = f"--exclude-operation-id-regex={ENDLESS}"
    fuzz(idle_server, "--max-examples=8", f"--header=Authorization: Key {KEY}", left_out)


def test_responses_of_generating_operations_match_the_document():
    only = f"--include-operation-id-regex={GENERATING}"
    # This server requires no key, and the operations do not depend on each other.
    checks = "--exclude-checks=ignored_auth"
    fuzz(URL, "--max-examples=15", "--phases=examples,coverage,fuzzing", checks, only)


def fuzz(url, *arguments):
    """Runs Schemathesis; it fails on a server error and on any response that the document does not describe."""
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    command = [program, "run", f"{url}/openapi.json", "--seed=1", "--no-color", "--continue-on-failure",
               "--no-shrink", "--request-timeout=60", *arguments]
    done = subprocess.run(command, cwd=HERE, env=PLAIN, capture_output=True, text=True)
    # A generated input can be very long.
    shown = "\n".join(line[:400] for line in done.stdout.splitlines() + done.stderr.splitlines())
    assert done.returncode == 0, shown
    tested = re.search(r"(\d+) generated", done.stdout)
    assert tested and int(tested[1]) > 50, shown
