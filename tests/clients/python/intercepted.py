"""Runs unmodified programs in the environment of `latentd env`, and records where they connect to."""

import json
import os
import pathlib
import re
import subprocess
import sys

from support import ENDPOINT, small

PROGRAMS = pathlib.Path(__file__).parent / "programs"
DATA = pathlib.Path(os.environ["LATENTD_DATA"])
INTERCEPT = DATA / "intercept"
ADDRESS = json.loads((INTERCEPT / "running.json").read_text())["address"]


def run(tmp_path, program, python_path=(), variables=None, change=":"):
    """Runs a program in a shell that evaluated `latentd env`; returns its output and its connections."""
    script = f'eval "$("$LATENTD_BIN" env --data-dir "$LATENTD_DATA")"; {change}; exec "$0" "$@"'
    environment = {name: os.environ[name] for name in ("PATH", "LATENTD_BIN", "LATENTD_DATA")}
    environment |= {
        "CONNECTION_LOG": str(tmp_path / "connections"),
        "PYTHONPATH": os.pathsep.join(map(str, [PROGRAMS / "record_connections", *python_path])),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FAL_KEY": "key:of-fal",
    }
    command = ["sh", "-c", script, sys.executable, *map(str, program), ENDPOINT, json.dumps(small())]
    done = subprocess.run(
        command, env=environment | (variables or {}), capture_output=True, text=True, timeout=100
    )
    return done, (tmp_path / "connections").read_text().splitlines()


def assert_stayed_here(seen):
    """Checks that the program connected only to the intercept port."""
    assert {line for line in seen if line.startswith("connect")} == {f"connect {ADDRESS}"}
    assert {line for line in seen if line.startswith("lookup")} <= {f"lookup {ADDRESS}"}


def as_fetched_here(text):
    """A program's output, with its images' URLs replaced by URLs that can be fetched outside of its environment."""
    return re.sub(rf"https://({re.escape(ADDRESS)}|v3\.fal\.media)/files/", f"{os.environ['LATENTD_URL']}/files/", text)
