"""Points fal_client at the server under test, as README.md describes, and records each test's calls separately."""

import os

import fal_client
import fal_client.client as C
import pytest
import wire

BASE = os.environ["LATENTD_URL"]


def hosts(base):
    """The globals of fal_client that name fal's hosts, for a server at `base`."""
    return {
        "RUN_URL_FORMAT": base + "/",
        "QUEUE_URL_FORMAT": base + "/queue/",
        "REALTIME_URL_FORMAT": base.replace("http", "ws", 1) + "/",
        "REST_URL": base,
        "CDN_URL": base,
    }


for name, value in hosts(BASE).items():
    setattr(C, name, value)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    item.wire_log = wire.begin(f"python-{item.nodeid}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and hasattr(item, "wire_log"):
        report.sections.append(("calls", item.wire_log))
    return report


@pytest.fixture(autouse=True)
def rules():
    """After each test, all responses to its calls must obey ../rules.mjs."""
    yield
    assert wire.violations() == []


@pytest.fixture
def client_of(monkeypatch):
    """Makes clients for a server that the test started, with the key of the environment."""

    def client(base):
        for name, value in hosts(base).items():
            monkeypatch.setattr(C, name, value)
        return fal_client.SyncClient()

    return client


@pytest.fixture
def no_waits(monkeypatch):
    """Removes the client's delays between retries; the retries themselves stay."""
    monkeypatch.setattr(C, "BASE_DELAY", 0)
