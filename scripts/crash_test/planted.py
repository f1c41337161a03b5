"""The bugs that a debug build has on demand (crates/queue/src/planted.rs), and the short run that finds each."""

import dataclasses


@dataclasses.dataclass
class Bug:
    """What is disturbed, how often, and which outcomes of requests show the bug."""

    outcomes: set
    targets: list
    kills: int
    topology: str = "host"
    # A planted bug shows within this, and requests that are lost need not be waited for any longer.
    limit_s: int = 30

    def is_found(self, report):
        return any(request.outcome in self.outcomes for request in report.requests)


BUGS = {
    "unfenced-writes": Bug({"result changed", "webhook differs"}, ["stop"], 2, "cluster", 120),
    "answer-before-commit": Bug({"lost"}, ["server"], 4),
    "no-reclaim": Bug({"never over"}, ["worker"], 2),
    "key-forgotten": Bug({"duplicated"}, ["worker"], 1, limit_s=90),
    "file-not-awaited": Bug({"file missing"}, ["worker"], 5, limit_s=90),
    "no-sync": Bug({"lost", "file missing"}, ["worker"], 3, "power"),
    "torn-state": Bug({"other pixels"}, ["worker"], 5, limit_s=90),
    "webhook-not-retried": Bug({"webhook missing"}, ["worker"], 2),
}
