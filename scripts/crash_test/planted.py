"""The bugs that a debug build has on demand (crates/queue/src/planted.rs), and the short run or the test that finds each."""

import dataclasses
import os
import subprocess

# Of cargo nextest, when tests failed; others mean that none ran.
TESTS_FAILED = 100


@dataclasses.dataclass
class Bug:
    """What is disturbed, how often, and which outcomes of requests show the bug."""

    outcomes: set
    targets: list
    kills: int
    topology: str = "host"
    # A planted bug shows within this, and requests that are lost need not be waited for any longer.
    limit_s: int = 30
    # A worker that was cut off does not come back.
    stays_away: bool = False

    def is_found(self, report):
        is_away = self.stays_away and report.returned < report.away
        return is_away or any(request.outcome in self.outcomes for request in report.requests)


@dataclasses.dataclass
class TestedBug:
    """The test of the HTTP suite that fails with it."""

    test: str

    def is_found(self, variables, root):
        command = ["cargo", "nextest", "run", "--workspace", "--features", "otlp", "--locked", "--test", "it", "-E", f"test(={self.test})"]
        done = subprocess.run(command, cwd=root, env=os.environ | variables, capture_output=True, text=True)
        if done.returncode != TESTS_FAILED:
            print(done.stderr)
        return done.returncode == TESTS_FAILED


BUGS = {
    "unfenced-writes": Bug({"result changed", "webhook differs"}, ["stop"], 2, "cluster", 120),
    # A late commit takes a second, and a request takes three: what has not changed for this long does not change any more.
    "answer-before-commit": Bug({"lost"}, ["server"], 4, limit_s=12),
    "no-reclaim": Bug({"never over"}, ["worker"], 2, limit_s=12),
    "key-forgotten": Bug({"duplicated"}, ["worker"], 1, limit_s=90),
    "file-not-awaited": Bug({"file missing"}, ["worker"], 5, limit_s=90),
    "no-sync": Bug({"lost", "file missing"}, ["worker"], 3, "power"),
    "torn-state": Bug({"other pixels"}, ["worker"], 5, limit_s=90),
    "webhook-not-retried": Bug({"webhook missing"}, ["worker"], 2),
    "owner-ignored": TestedBug("isolation::no_route_tells_a_key_of_the_requests_and_files_of_another"),
    "results-removed-early": TestedBug("keeping::a_result_that_is_not_kept_is_missing_while_its_request_is_known"),
    "inputs-kept": TestedBug("keeping::an_input_that_is_not_kept_leaves_the_result"),
    "wal-kept": TestedBug("erasure::nothing_is_left_of_what_retention_deletes"),
    # The last one, for it enters a network namespace.
    "no-statement-limit": Bug(set(), ["address"], 1, "two-hosts", 90, stays_away=True),
}
