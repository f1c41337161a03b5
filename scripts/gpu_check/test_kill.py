#!/usr/bin/env python3
"""A call that is killed at any moment leaves a readable archive with every finished step.

    scripts/gpu_check/test_kill.py

Runs scripted steps through the same code as a call's own, kills the program at ten random moments, and compares the
archive with the steps that the program had printed as finished. Prints the seed; GPU_CHECK_SEED repeats it.
"""

import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from gpu_check.results import Results  # noqa: E402
from gpu_check.runner import Call, Step  # noqa: E402

KILLS, STEPS = 10, 7
# A step that writes a file as large as a benchmark's results, and prints its checksum.
WRITES_FILE = """
head -c 400000 /dev/urandom >"$1" && sha256sum <"$1"
"""


def call(work: pathlib.Path, archive: pathlib.Path) -> None:
    """The program that is killed. The third step fails and the fourth cannot run, as on a real machine."""
    results = Results(work / "call", archive)
    steps = [
        Step(f"step-{i}", 30, ["sh", "-c", WRITES_FILE, "sh", results.folder / f"step-{i}.bin"]) for i in range(STEPS)
    ]
    steps[2] = Step("fails", 30, ["sh", "-c", "echo in vain; exit 3"])
    steps[3] = Step("lacks", 30, ["nothing"], missing=lambda: "there is no nothing")
    Call(results, 60, dict(os.environ), time.monotonic()).run(steps)


def start(work: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, __file__, str(work / "results"), str(work / "out/results.tar.gz")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def check(work: pathlib.Path, printed: list[str]) -> None:
    """Compares the archive with the lines that the program had printed."""
    archive = work / "out/results.tar.gz"
    if not printed:
        return
    with tarfile.open(archive) as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    summary = contents["call/summary.txt"].decode().splitlines()
    notes = [line for line in printed if not line.startswith("    ")]
    assert summary[: len(notes)] == notes, f"printed {notes}, but the archive has {summary}"
    for line in notes:
        name, _, how = line.partition(": ")
        if how.startswith("ok"):
            checksum = contents[f"call/{name}.txt"].decode().split()[0]
            assert hashlib.sha256(contents[f"call/{name}.bin"]).hexdigest() == checksum, f"{name} is incomplete"
        if how.startswith("FAILED") and name == "fails":
            assert contents["call/fails.txt"] == b"in vain\n"


def uninterrupted(work: pathlib.Path) -> float:
    """Seconds of a call that is not killed, which must have printed and archived everything."""
    started = time.monotonic()
    program = start(work)
    printed = program.communicate()[0].splitlines()
    seconds = time.monotonic() - started
    check(work, printed)
    assert printed[-1].startswith(f"gpu-check: {STEPS - 2} ok, 1 failed, 1 left out"), printed
    assert "left out, there is no nothing: lacks" in printed, printed
    return seconds


def main() -> None:
    seed = int(os.environ.get("GPU_CHECK_SEED", random.SystemRandom().randrange(1 << 32)))
    moments = random.Random(seed)
    kills = finished = 0
    with tempfile.TemporaryDirectory() as folder:
        seconds = uninterrupted(pathlib.Path(folder) / "uninterrupted")
        for attempt in range(20 * KILLS):
            work = pathlib.Path(folder) / str(attempt)
            program = start(work)
            time.sleep(moments.uniform(0, seconds))
            program.send_signal(signal.SIGKILL)
            printed = program.communicate()[0].splitlines()
            check(work, printed)
            # A program that had ended before was not killed: another moment instead.
            if program.returncode == -signal.SIGKILL:
                kills += 1
                finished += len(printed)
            if kills == KILLS:
                print(f"killed {kills} times (seed {seed}): {finished} finished steps were all kept")
                return
    raise SystemExit("no call was slow enough to be killed")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        call(*map(pathlib.Path, sys.argv[1:]))
    else:
        main()
