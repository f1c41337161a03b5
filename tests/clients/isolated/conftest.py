"""Every test of this folder runs in a world of its own, with one server."""

import os
import pathlib

import pytest
import world

BINARY = os.environ["LATENTD_BIN"]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    internet = world.enter()
    directory = tmp_path_factory.mktemp("data") / "it's here"
    with world.server(BINARY, directory):
        yield directory
    internet.kill()
    internet.wait()


@pytest.fixture(scope="session")
def session_witness(data):
    return world.Witness()


@pytest.fixture
def witness(session_witness):
    """Has seen nothing yet."""
    session_witness.seen()
    return session_witness


@pytest.fixture(scope="session", autouse=True)
def room(tmp_path_factory):
    os.environ["LATENTD_WORLD"] = str(tmp_path_factory.mktemp("world"))
    return pathlib.Path(os.environ["LATENTD_WORLD"])
