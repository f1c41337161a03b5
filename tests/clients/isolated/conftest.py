"""All tests of this folder run in one network namespace, with one server."""

import os
import pathlib

import pytest
import network

BINARY = os.environ["LATENTD_BIN"]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    internet = network.enter()
    data = tmp_path_factory.mktemp("data") / "it's here"
    with network.server(BINARY, data):
        yield data
    internet.kill()
    internet.wait()


@pytest.fixture(scope="session")
def session_capture(data):
    return network.PacketCapture()


@pytest.fixture
def capture(session_capture):
    """A packet capture without earlier packets."""
    session_capture.seen()
    return session_capture


@pytest.fixture(scope="session", autouse=True)
def directory(tmp_path_factory):
    os.environ["LATENTD_TEST_DIRECTORY"] = str(tmp_path_factory.mktemp("network"))
    return pathlib.Path(os.environ["LATENTD_TEST_DIRECTORY"])
