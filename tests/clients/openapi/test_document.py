"""What others make of the document: a validator, and a fuzzer that calls the server as the document says."""

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

# They hold the line for as long as a request takes: a server that paints is fuzzed with them, but for those whose
# input is in the query, which is the same written another way.
PAINTING = "^run(?!.*ByQuery)"
# The former, and what ends with the request where nobody paints.
ENDLESS = "^(run|statusStream$)"

ENDPOINTS = ("stable-diffusion-v35-large", "stable-diffusion-v35-large/turbo", "stable-diffusion-v35-medium")


@pytest.mark.parametrize("query", ["", *(f"?endpoint_id=fal-ai/{endpoint}" for endpoint in ENDPOINTS)])
def test_the_document_is_valid(query):
    OpenAPIV31SpecValidator(requests.get(f"{URL}/openapi.json{query}").json()).validate()


@pytest.fixture
def idle_server(tmp_path):
    """A server that takes requests, wants a key and never paints."""
    command = [PROGRAM, "serve", "--listen", "127.0.0.1:0", "--workers", "0", "--log", "error"]
    command += ["--api-key", KEY, "--data-dir", tmp_path]
    process = subprocess.Popen(command, env=PLAIN, stdout=subprocess.PIPE, text=True)
    url = re.search(r"http://\S+", process.stdout.readline())[0]
    while requests.get(f"{url}/health/live").status_code != 200:
        time.sleep(0.05)
    yield url
    process.terminate()
    assert process.wait(20) == 0


def test_calls_that_the_document_allows_are_answered_as_it_says(idle_server):
    left_out = f"--exclude-operation-id-regex={ENDLESS}"
    fuzz(idle_server, "--max-examples=8", f"--header=Authorization: Key {KEY}", left_out)


def test_pictures_are_answered_as_the_document_says():
    only = f"--include-operation-id-regex={PAINTING}"
    # Nothing asks for a key here, and the calls stand alone.
    checks = "--exclude-checks=ignored_auth"
    fuzz(URL, "--max-examples=15", "--phases=examples,coverage,fuzzing", checks, only)


def fuzz(url, *arguments):
    """Runs Schemathesis; it fails on a server error and on whatever the document does not say."""
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    command = [program, "run", f"{url}/openapi.json", "--seed=1", "--no-color", "--continue-on-failure",
               "--no-shrink", "--request-timeout=60", *arguments]
    done = subprocess.run(command, cwd=HERE, env=PLAIN, capture_output=True, text=True)
    # A generated input can be very long.
    shown = "\n".join(line[:400] for line in done.stdout.splitlines() + done.stderr.splitlines())
    assert done.returncode == 0, shown
    tested = re.search(r"(\d+) generated", done.stdout)
    assert tested and int(tested[1]) > 50, shown
