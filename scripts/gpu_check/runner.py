"""Runs the steps of a call one after another within the time limit of the call."""

import os
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gpu_check.results import Results, shorten

# Seconds that must be left to start a step, and seconds reserved for the last archive.
LEAST, RESERVE = 8.0, 3.0


@dataclass(frozen=True)
class Step:
    """A command whose output and exit code are a result."""

    name: str
    """Its output is NAME.txt."""
    seconds: float
    """Its time limit; if less of the call is left, the rest of the call."""
    command: list[str | pathlib.Path]
    show: Callable[[str], str] | None = None
    """Selects the output that is printed when it succeeds. Of a failed step the last lines are printed."""
    missing: Callable[[], str | None] = lambda: None
    """Why it cannot run on this machine, if it cannot."""
    env: dict[str, str] = field(default_factory=dict)


class Call:
    """One call: its time limit and its results."""

    def __init__(self, results: Results, limit: float, env: dict[str, str], started: float):
        self.results, self.env, self.deadline, self.started = results, env, started + limit, started
        self.failed: list[str] = []
        self.left_out: dict[str, list[str]] = {}
        self._child: subprocess.Popen | None = None
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(name, self._stop)

    def run(self, steps: list[Step]) -> bool:
        """Runs the steps that time allows; returns whether none failed. The summary ends with the failed and missing steps."""
        for step in steps:
            self._step(step)
        for why, names in self.left_out.items():
            self.results.note(f"left out, {why}: {', '.join(names)}")
        for line in self.failed:
            self.results.note("failed: " + line)
        left_out = sum(map(len, self.left_out.values()))
        done = len(steps) - left_out - len(self.failed)
        counts = f"{done} ok, {len(self.failed)} failed, {left_out} left out"
        self.results.note(f"gpu-check: {counts}, {time.monotonic() - self.started:.0f} s")
        return not self.failed

    def _step(self, step: Step) -> None:
        left = self.deadline - time.monotonic() - RESERVE
        why = "no time" if left < LEAST else step.missing()
        if why:
            self.left_out.setdefault(why, []).append(step.name)
            self.results.note(f"{step.name}: LEFT OUT, {why}")
            return
        seconds, started_at = min(step.seconds, left), time.monotonic()
        output = self.results.folder / f"{step.name}.txt"
        code = self._execute(step, output, seconds)
        took = f"{time.monotonic() - started_at:.1f} s"
        text = clean(output)
        if code == 0:
            if step.show:
                print(step.show(text), flush=True)
            self.results.note(f"{step.name}: ok, {took}")
        elif code is None and seconds < step.seconds:
            # Not a failure of the step: the call's time is over.
            self._print_end(text)
            self.left_out.setdefault("cut off", []).append(step.name)
            self.results.note(f"{step.name}: CUT OFF after {took}, no time")
        else:
            what = f"took longer than {seconds:.0f} s" if code is None else f"exit code {code} after {took}"
            self._print_end(text)
            self.failed.append(f"{step.name}, {what}")
            self.results.note(f"{step.name}: FAILED, {what}")

    def _execute(self, step: Step, output: pathlib.Path, seconds: float) -> int | None:
        """Its exit code, or None if it was killed at its time limit."""
        with open(output, "wb") as file:
            try:
                self._child = subprocess.Popen(
                    [str(word) for word in step.command],
                    stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                    env=self.env | step.env, process_group=0,
                )  # fmt: skip
            except OSError as error:
                file.write(f"{error}\n".encode())
                return 127
            try:
                return self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
            finally:
                self._end_child()
                shorten(output)

    def _end_child(self) -> None:
        """Ends the whole process group: a compiler that a step started would otherwise run during the next step."""
        child, self._child = self._child, None
        if child is None:
            return
        for name in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.pid, name)
                child.wait(2)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                # After SIGKILL: it hangs in the driver, and the next steps will fail.
                continue

    def _stop(self, name: int, _frame) -> None:
        self._end_child()
        raise SystemExit(128 + name)

    @staticmethod
    def _print_end(text: str) -> None:
        print("\n".join("    " + line for line in text.splitlines()[-15:]), flush=True)


def clean(output: pathlib.Path) -> str:
    """The output without colours and overwritten progress bars."""
    text = output.read_text(encoding="utf-8", errors="replace")
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]|[^\n]*\r(?!\n)", "", text)
