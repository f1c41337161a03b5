"""What came of it: counts, and how soon interrupted work went on."""

import collections
import datetime
import re
import statistics


class Report:
    """Collects kills and requests, and prints the table."""

    def __init__(self, setup):
        self.setup = setup
        self.kills = []
        self.requests = []
        # More in the database than accepted requests, and states that no request needs.
        self.extra_rows = 0
        self.extra_states = 0
        # Suspended and cut workers, and those that worked again afterwards.
        self.away = 0
        self.returned = 0

    def killed(self, target, at, is_first):
        """A kill; `is_first`: of a worker for which its server has no pause yet."""
        self.kills.append((target, at, is_first))

    def killed_power(self, count):
        self.kills += [("power", 0, False)] * count

    def print(self):
        """Prints the table; whether nothing was lost, duplicated, failed or different."""
        outcomes = collections.Counter(request.outcome for request in self.requests)
        duplicated = outcomes["duplicated"] + max(0, self.extra_rows)
        targets = collections.Counter(target for target, _, _ in self.kills)
        steps = [self.steps(request) for request in self.requests]
        others = {name: count for name, count in outcomes.items() if name not in ("completed", "lost", "duplicated")}
        for name, value in [
            ("setup", self.setup),
            ("disturbed", f"{len(self.kills)} times: {', '.join(f'{n} {name}' for name, n in sorted(targets.items()))}"),
            ("accepted", len(self.requests)),
            ("completed, with the right files and webhook", outcomes["completed"]),
            ("lost", outcomes["lost"]),
            ("duplicated", duplicated),
            ("otherwise wrong", ", ".join(f"{count} x {name}" for name, count in others.items()) or 0),
            ("states left", self.extra_states),
            ("attempts that died", sum(request.attempts_that_died() for request in self.requests)),
            ("of them, of workers that fell silent", self.count("fell silent")),
            ("attempts that continued", self.count("continuing after step")),
            ("steps taken", sum(map(len, steps))),
            ("steps repeated", sum(len(one) - len(set(one)) for one in steps)),
            ("seconds to go on", self.recovery(True)),
            ("seconds to go on, after a backoff or a lease", self.recovery(False)),
            ("workers that were away and worked again", f"{self.returned} of {self.away}"),
        ]:
            print(f"| {name} | {value} |")
        is_right = len(self.requests) > 0 and outcomes["completed"] == len(self.requests)
        return is_right and not duplicated and not self.extra_states and self.returned == self.away

    def count(self, words):
        return sum(words in line["message"] for request in self.requests for line in request.logs)

    @staticmethod
    def steps(request):
        found = (re.match(r"step (\d+)/", line["message"]) for line in request.logs)
        return [int(one[1]) for one in found if one]

    def recovery(self, is_first):
        """From a worker's kill to the beginning of the next attempt at the request that it was working on."""
        kills = sorted(at for _, at, _ in self.kills)
        chosen = [at for target, at, first in self.kills if target == "worker" and first == is_first]
        seconds = [self.gone_on(at, kills) for at in chosen]
        seconds = [one for one in seconds if one is not None]
        if not seconds:
            return "-"
        return f"median {statistics.median(seconds):.2f}, most {max(seconds):.2f} (of {len(seconds)} killed workers)"

    def gone_on(self, at, kills):
        """None where no request was interrupted, or the next kill came first."""
        next_kill = min((other for other in kills if other > at), default=float("inf"))
        for request in self.requests:
            lines = [(when(line["timestamp"]), line["message"]) for line in request.logs]
            begun = [line_at for line_at, message in lines if message.startswith("encoding prompt")]
            later = [one for one in begun if one > at]
            # The line follows the kill before the next attempt begins.
            is_cut = later and any("is tried again" in message and at <= line_at <= later[0] for line_at, message in lines)
            if is_cut and begun[0] <= at and later[0] < next_kill:
                return later[0] - at
        return None


def when(timestamp):
    return datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
