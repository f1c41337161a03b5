"""What the machine has: the CUDA libraries, wherever a driver, a toolkit or a PyTorch put them, and the tools."""

import glob
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable

from gpu_check.pack import ROOT

# Where a driver lies; the last to be looked at, since such a folder may hold other libraries' old versions too.
DRIVER = ("/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib/x86_64-linux-gnu/nvidia/current")


def library_folders(python: str) -> list[str]:
    """Of the Python's `nvidia` packages, which may be spread over several site-packages; then a toolkit's; then a driver's."""
    # Not sysconfig's folder: a virtual environment may inherit its packages from another.
    asked = subprocess.run(
        [python, "-c", "import nvidia; print(*nvidia.__path__, sep='\\n')"], capture_output=True, text=True, check=False
    )
    packages = [path for root in asked.stdout.splitlines() for path in sorted(glob.glob(f"{root}/*/lib"))]
    return [path for path in [*packages, "/usr/local/cuda/lib64", *DRIVER] if os.path.isdir(path)]


def environment(python: str, commit: str, data: pathlib.Path) -> dict[str, str]:
    """What every step finds in its environment."""
    before = os.environ.get("LD_LIBRARY_PATH")
    return dict(os.environ) | {
        # What the caller has set comes first.
        "LD_LIBRARY_PATH": ":".join([*([before] if before else []), *library_folders(python)]),
        # One after the other: what one thread does to the device's context would end another's capture.
        "RUST_TEST_THREADS": "1",
        # Where the tests look for their files.
        "CARGO_MANIFEST_DIR": str(ROOT / "models"),
        "LATENTD_COMMIT": commit,
        # No algorithm is known at first; those that are chosen come back with the rest.
        "XDG_DATA_HOME": str(data),
        "PYTHONUNBUFFERED": "1",
        # Set by a machine's own preparation; peers must find what is carried first.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def lacks_tool(name: str) -> Callable[[], str | None]:
    """A check that returns why a step cannot run: there is no such command."""
    return lambda: None if shutil.which(name) else f"there is no {name}"


def lacks_packages(python: str, env: dict[str, str], *names: str) -> Callable[[], str | None]:
    """Likewise if that Python does not find all of these packages; importing them would take seconds."""
    script = "import importlib.util, sys; print(*(n for n in sys.argv[1:] if not importlib.util.find_spec(n)))"

    def missing() -> str | None:
        # Not from here: a folder may have a file of a package's name.
        asked = subprocess.run([python, "-P", "-c", script, *names], env=env, capture_output=True, text=True, check=False)
        if asked.returncode != 0:
            return f"{python} does not run"
        return f"{python} has no {', '.join(asked.stdout.split())}" if asked.stdout.strip() else None

    return missing
