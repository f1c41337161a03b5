"""Finds the machine's CUDA libraries (of a driver, a toolkit or PyTorch) and its tools."""

import glob
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable

from gpu_check.pack import ROOT

# Folders of a driver; searched last, since they may also contain old versions of other libraries.
DRIVER = ("/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib/x86_64-linux-gnu/nvidia/current")


def library_folders(python: str) -> list[str]:
    """Library folders of the Python's `nvidia` packages, in any of its site-packages; then a toolkit's; then a driver's."""
    # Not sysconfig's folder: a virtual environment may inherit its packages from another.
    asked = subprocess.run(
        [python, "-c", "import nvidia; print(*nvidia.__path__, sep='\\n')"], capture_output=True, text=True, check=False
    )
    packages = [path for root in asked.stdout.splitlines() for path in sorted(glob.glob(f"{root}/*/lib"))]
    return [path for path in [*packages, "/usr/local/cuda/lib64", *DRIVER] if os.path.isdir(path)]


def environment(python: str, commit: str, data: pathlib.Path) -> dict[str, str]:
    """The environment of every step."""
    before = os.environ.get("LD_LIBRARY_PATH")
    return dict(os.environ) | {
        # The caller's folders come first.
        "LD_LIBRARY_PATH": ":".join([*([before] if before else []), *library_folders(python)]),
        # One test at a time: operations on the device's context in one thread would abort a capture in another.
        "RUST_TEST_THREADS": "1",
        # The folder in which tests look for their files.
        "CARGO_MANIFEST_DIR": str(ROOT / "models"),
        "LATENTD_COMMIT": commit,
        # Starts without chosen algorithms; the choices become part of the results.
        "XDG_DATA_HOME": str(data),
        "PYTHONUNBUFFERED": "1",
        # The checkout stays unchanged.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def lacks_tool(name: str) -> Callable[[], str | None]:
    """A check that returns why a step cannot run, if there is no such command."""
    return lambda: None if shutil.which(name) else f"there is no {name}"


def lacks_packages(python: str, env: dict[str, str], *names: str) -> Callable[[], str | None]:
    """The same for packages of that Python, without importing them, which would take seconds."""
    script = "import importlib.util, sys; print(*(n for n in sys.argv[1:] if not importlib.util.find_spec(n)))"

    def missing() -> str | None:
        # -P: a folder here may contain a file with the name of a package.
        asked = subprocess.run([python, "-P", "-c", script, *names], env=env, capture_output=True, text=True, check=False)
        if asked.returncode != 0:
            return f"{python} does not run"
        return f"{python} has no {', '.join(asked.stdout.split())}" if asked.stdout.strip() else None

    return missing
