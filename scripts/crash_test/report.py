"""What came of it: counts, and how soon interrupted work went on."""

import collections
import datetime
import re
import statistics


class Report:
    """Collects kills and requests, and prints the table."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.kills = []
        self.requests = []
        self.rows = 0

    def killed(self, target, at):
        self.kills.append((target, at))

    def add_requests(self, requests):
        self.requests = requests

    def print(self):
        """Prints the table; whether nothing was lost, duplicated, failed or different."""
        outcomes = collections.Counter(request.outcome for request in self.requests)
        accepted, completed = len(self.requests), outcomes["completed"]
        lost, duplicated = outcomes["lost"], outcomes["duplicated"] + self.rows_beyond()
        targets = collections.Counter(target for target, _ in self.kills)
        steps = [self.steps(request) for request in self.requests]
        taken, repeated = sum(map(len, steps)), sum(len(one) - len(set(one)) for one in steps)
        continued = sum(self.says(request, "continuing after step") for request in self.requests)
        tried_again = sum(request.attempts_that_died() for request in self.requests)
        for name, value in [
            ("engine", self.arguments.engine),
            ("kills", f"{len(self.kills)} ({', '.join(f'{n} {name}' for name, n in sorted(targets.items()))})"),
            ("accepted", accepted),
            ("completed", completed),
            ("lost", lost),
            ("duplicated", duplicated),
            ("attempts that died", tried_again),
            ("attempts that continued", continued),
            ("steps taken", taken),
            ("steps repeated", repeated),
            ("seconds to go on", self.recovery()),
        ]:
            print(f"| {name} | {value} |")
        for outcome, count in outcomes.items():
            if outcome not in ("completed", "lost", "duplicated"):
                print(f"{count} x {outcome}")
        return accepted > 0 and completed == accepted and not lost and not duplicated

    def rows_beyond(self):
        """Requests in the database that no accepted key has: each input also ran once before the kills."""
        from .clients import INPUTS

        return max(0, self.rows - len(self.requests) - len(INPUTS))

    @staticmethod
    def says(request, words):
        return sum(words in line["message"] for line in request.logs)

    @staticmethod
    def steps(request):
        found = (re.match(r"step (\d+)/", line["message"]) for line in request.logs)
        return [int(one[1]) for one in found if one]

    def recovery(self):
        """From a worker's kill to the beginning of the next attempt at the request that it was working on."""
        seconds = []
        for request in self.requests:
            lines = [(when(line["timestamp"]), line["message"]) for line in request.logs]
            begun = [at for at, message in lines if message.startswith("encoding prompt")]
            for target, at in self.kills:
                later = [one for one in begun if one > at]
                before = [one for one in begun if one <= at]
                is_cut = any("is tried again" in message and line_at >= at for line_at, message in lines)
                next_kill = min((other for _, other in self.kills if other > at), default=float("inf"))
                if target == "worker" and before and later and is_cut and later[0] < next_kill:
                    seconds.append(later[0] - at)
        if not seconds:
            return "no attempt was interrupted by a worker's death"
        return f"median {statistics.median(seconds):.2f}, most {max(seconds):.2f} (of {len(seconds)} killed workers)"


def when(timestamp):
    return datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
