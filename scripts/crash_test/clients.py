"""Clients that submit without a pause, and remember what was accepted."""

import base64
import dataclasses
import json
import random
import threading
import time
import uuid

from .processes import ENDPOINT

QUEUE = f"/queue/{ENDPOINT}"


def request_input(prompt, side, steps, seed, images=1):
    size = {"width": side, "height": side}
    return {
        "prompt": prompt, "image_size": size, "num_inference_steps": steps, "seed": seed, "num_images": images,
        "sync_mode": True, "enable_safety_checker": False,
    }


# Short ones, and ones that live long enough to be interrupted and continued.
INPUTS = [
    request_input("a red boat", 64, 4, 1),
    request_input("a lighthouse at night", 128, 8, 2),
    request_input("two towers on a hill", 512, 30, 3),
    request_input("three boats at noon", 768, 24, 4, images=2),
]


@dataclasses.dataclass
class Accepted:
    """A request that the server has accepted."""

    request_id: str
    input: int
    outcome: str = "lost"
    is_over: bool = False
    logs: list = dataclasses.field(default_factory=list)

    def attempts_that_died(self):
        """By the log; two are allowed, the third ends a request."""
        return sum("tried again" in line["message"] for line in self.logs)


def images_of(server, index):
    """The images of an input without disturbance."""
    code, body = server.call("POST", f"/run/{ENDPOINT}", INPUTS[index], timeout=300)
    if code != 200:
        raise SystemExit(f"an undisturbed run failed: {code} {body[:200]}")
    return decoded(json.loads(body))


def decoded(output):
    return [base64.b64decode(image["url"].split(",")[1]) for image in output["images"]]


class Clients:
    """Threads that each have one request in the queue."""

    COUNT = 4

    def __init__(self, servers, expected):
        self.servers = servers
        self.expected = expected
        self.accepted = {}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.duplicated = 0
        self.threads = [threading.Thread(target=self.work, args=(number,)) for number in range(self.COUNT)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def work(self, number):
        chance = random.Random(number)
        while not self.stopping.is_set():
            key = str(uuid.uuid4())
            accepted = self.submit(key, chance)
            while not self.stopping.is_set() and not self.is_over(accepted, chance):
                time.sleep(0.2)

    def submit(self, key, chance):
        """Submits until it is accepted, also where the servers are about to stop: no key may stay without a request."""
        index = chance.randrange(len(INPUTS))
        while True:
            try:
                server = chance.choice(self.servers)
                code, body = server.call("POST", QUEUE, INPUTS[index], {"Idempotency-Key": key})
            except OSError:
                code, body = 0, b""
            if code == 200:
                accepted = Accepted(json.loads(body)["request_id"], index)
                with self.lock:
                    self.accepted[key] = accepted
                return accepted
            if code not in (0, 503):
                raise SystemExit(f"a submit was answered with {code}: {body[:300]}")
            time.sleep(0.2)

    def is_over(self, accepted, chance):
        try:
            server = chance.choice(self.servers)
            code, body = server.call("GET", f"{QUEUE}/requests/{accepted.request_id}/status?logs=1")
        except OSError:
            return False
        if code in (200, 202):
            status = json.loads(body)
            accepted.logs = status.get("logs", [])
            accepted.is_over = status["status"] == "COMPLETED"
        return accepted.is_over or code == 404

    def may_be_disturbed(self):
        """Whether no request that is not over would be ended by another death."""
        with self.lock:
            return all(one.is_over or one.attempts_that_died() < 2 for one in self.accepted.values())

    def finish(self, limit):
        """Waits until every request is over, and compares its images."""
        chance = random.Random(0)
        deadline = time.monotonic() + limit
        for key, accepted in self.accepted.items():
            while not self.is_over(accepted, chance) and time.monotonic() < deadline:
                time.sleep(0.1)
            self.judge(key, accepted, chance)
        return list(self.accepted.values())

    def judge(self, key, accepted, chance):
        server = chance.choice(self.servers)
        path = f"{QUEUE}/requests/{accepted.request_id}"
        code, body = server.call("GET", path)
        if code == 200:
            is_right = decoded(json.loads(body)) == self.expected[accepted.input]
            accepted.outcome = "completed" if is_right else "other pixels"
        elif code not in (202, 404):
            accepted.outcome = f"failed ({code}: {body[:120].decode(errors='replace')})"
        # The same key finds the same request, whatever has died meanwhile. After a failure it would be tried again.
        if accepted.outcome != "completed":
            return
        code, body = server.call("POST", QUEUE, INPUTS[accepted.input], {"Idempotency-Key": key})
        if code != 200 or json.loads(body)["request_id"] != accepted.request_id:
            accepted.outcome = "duplicated"
