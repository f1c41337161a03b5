"""Runs checks one after another, prints what each found, and counts."""

import subprocess
import time
import traceback


class CheckFailed(Exception):
    """What a check found wrong."""


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def run(self, name, check, *arguments):
        """Runs one check; it passes unless it raises. What it returns is printed beside its name."""
        started = time.monotonic()
        try:
            found = check(*arguments)
        except Exception as error:  # a fault of one check must not hide the others
            self.failed += 1
            if not isinstance(error, CheckFailed):
                traceback.print_exc()
            print(f"FAILED {name}: {error}", flush=True)
            return
        self.passed += 1
        print(f"ok {time.monotonic() - started:5.1f} s  {name}{f': {found}' if found else ''}", flush=True)


def require(condition, message):
    if not condition:
        raise CheckFailed(message)


def command(*words, **options):
    """Runs a program, which must succeed; its output, of both streams."""
    done = subprocess.run(
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **options
    )
    require(done.returncode == 0, f"`{' '.join(str(word) for word in words)}` exits with {done.returncode}:\n{done.stdout}")
    return done.stdout
