"""The servers that deploy/ describes, for real: PostgreSQL, two gateways that share it, and a worker."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import time

from crash_test.processes import children, free_port, last_lines, send
from crash_test.stores import Postgres

from .checks import command, require

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
KEY = "check:deployment"
ENDPOINT = "fal-ai/stable-diffusion-v35-large"
SMALL = {"prompt": "a lighthouse", "image_size": {"width": 128, "height": 96}, "num_inference_steps": 4}
# Starting and generating take seconds; a machine that is busy with other work gets more.
LIMIT_S = 120


def environment(**variables):
    return {k: v for k, v in os.environ.items() if not k.startswith(("LATENTD_", "FAL_"))} | variables


def wait_for(what, condition, limit=LIMIT_S):
    """Waits until the condition holds; its value."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found := condition():
                return found
        time.sleep(0.1)
    require(False, f"{what}: not within {limit} s")


@contextlib.contextmanager
def process(command, log, **options):
    """A process that is ended at the end, with SIGTERM; its output is in `log`."""
    with open(log, "ab") as output:
        started = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def gpus(folder):
    """A folder with the tests' stand-in for NVIDIA's management library, so that there are metrics of GPUs."""
    folder.mkdir()
    command("cc", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", ROOT / "tests" / "it" / "gpus" / "nvml.c")
    return folder


class Gateway:
    """A `latentd serve` of the shared queue."""

    def __init__(self, stack, binary, folder, index, database, workers, libraries):
        self.port = free_port()
        self.log = folder / f"gateway-{index}.log"
        data = folder / f"gateway-{index}"
        data.mkdir(mode=0o700)
        signing_key = folder / "gateway-0" / "webhook-key.pk8"
        if signing_key.exists():
            (data / signing_key.name).write_bytes(signing_key.read_bytes())
        keys = folder / "api-keys"
        keys.write_text(f"# Of the check.\n{KEY}\n")
        words = [binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--model", "mini", "--device", "cpu"]
        words += ["--workers", workers, "--data-dir", data, "--storage", folder / "files", "--api-key-file", keys]
        # Short, so that a run of some seconds shows the white space before a late result.
        words += ["--trusted-proxy", "127.0.0.0/8", "--run-headers-after", "1", "--drain-timeout", "10"]
        variables = environment(LATENTD_DATABASE_URL=database, LD_LIBRARY_PATH=str(libraries))
        self.process = stack.enter_context(process(words, self.log, env=variables))

    def call(self, method, path, body=None, key=KEY):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            headers = {"Authorization": f"Key {key}"} if key else {}
            if body is not None:
                body, headers = json.dumps(body), headers | {"Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def is_up(self, path):
        require(self.process.poll() is None, f"a gateway ended:\n{last_lines(self.log)}")
        return self.call("GET", path)[0] == 200


class Servers:
    """PostgreSQL and two gateways; the second has a worker of its own."""

    def __init__(self, stack, binary, folder):
        self.folder = folder
        self.database = Postgres(folder / "database")
        stack.callback(self.database.server.wait)
        stack.callback(self.database.server.send_signal, signal.SIGINT)
        self.gateways, libraries = [], gpus(folder / "libraries")
        for index, workers in enumerate([0, 1]):
            self.gateways.append(Gateway(stack, binary, folder, index, self.database.url, workers, libraries))
            # The second gets the first one's signing key.
            wait_for("a gateway", lambda: self.gateways[-1].is_up("/health/live"))
        self.wait_until_ready()

    @property
    def ports(self):
        return [gateway.port for gateway in self.gateways]

    def wait_until_ready(self):
        wait_for("a worker", lambda: self.gateways[1].is_up("/health/ready"))

    def metrics(self):
        """Of both gateways: devices are counted where the worker is."""
        return "".join(gateway.call("GET", "/metrics")[1].decode() for gateway in self.gateways)

    def make_every_metric(self):
        """Requests that succeed, fail and are rejected, a webhook that fails, a worker that dies."""
        first, second = self.gateways
        for gateway, body in [(first, SMALL), (second, SMALL), (first, SMALL | {"num_images": -1})]:
            gateway.call("POST", f"/run/{ENDPOINT}", body)
        for gateway in (first, second):
            require(gateway.call("POST", f"/run/{ENDPOINT}", SMALL, key=None)[0] == 401, "a call without a key")
        self.submit(f"?fal_webhook=http%3A%2F%2F127.0.0.1%3A{free_port()}%2F")
        wait_for("the webhook in the metrics", lambda: "latentd_webhook_attempts_total{" in self.metrics())
        # Not before, since its request would wait for a minute, until its lease expires.
        for pid in children(second.process.pid):
            send(signal.SIGKILL, pid)
        wait_for("the restart in the metrics", lambda: "latentd_worker_restarts_total{" in self.metrics())
        self.wait_until_ready()

    def submit(self, parameters=""):
        status, answer = self.gateways[0].call("POST", f"/queue/{ENDPOINT}{parameters}", SMALL)
        require(status == 200, f"a submit: {status} {answer!r}")

    def count_ended(self):
        """Requests that have ended, once none waits or runs."""
        wait_for("the queue to be empty", lambda: self.database.psql("SELECT count(*) FROM requests WHERE state <> 'done'") == "0")
        return int(self.database.psql("SELECT sum(count) FROM counters WHERE metric = 'requests'"))

    def stop_first(self):
        """Stops the first gateway as a service manager does; its exit code."""
        self.gateways[0].process.terminate()
        return self.gateways[0].process.wait(LIMIT_S)

