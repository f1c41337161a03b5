"""The suites of `run`: how each installs its dependencies, runs, and counts its tests."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

SUITE_WITHIN_S = 1800


class JavaScript:
    """node:test files of js/, one after another, since they share one worker."""

    home = HERE / "js"

    @classmethod
    def install(cls):
        cls.install_in(cls.home)

    @staticmethod
    def install_in(home):
        install_once(home / "node_modules" / ".installed", home / "package-lock.json", [["npm", "ci"]], home)

    @classmethod
    def run(cls, environment, kept, files):
        tap = kept / f"{cls.home.name}.tap"
        tests = files or sorted(path.name for path in cls.home.glob("*.test.mjs"))
        command = ["node", "--test", "--test-concurrency=1"]
        command += ["--test-reporter=spec", "--test-reporter-destination=stdout"]
        command += ["--test-reporter=tap", f"--test-reporter-destination={tap}"]
        code = finish([*command, *tests], cls.home, environment)
        text = tap.read_text() if tap.is_file() else ""
        return counted(code, text, r"^# pass (\d+)$", r"^# (?:fail|cancelled) (\d+)$")


class Python:
    """pytest files of python/, in a virtual environment in the same folder."""

    home = HERE / "python"
    # Old versions in folders of their own, for programs that put the folder on their path.
    old_versions = {"fal_client_0_5_9": "fal_client==0.5.9", "fal_client_0_5_0": "fal_client==0.5.0"}

    @classmethod
    def install(cls):
        requirements = cls.home / "requirements.txt"
        venv = cls.home / ".venv"
        pip = [venv / "bin" / "pip", "install", "--quiet"]
        commands = [[sys.executable, "-m", "venv", "--clear", venv], [*pip, "--requirement", requirements]]
        commands += [[*pip, "--no-deps", "--target", venv / name, package] for name, package in cls.old_versions.items()]
        install_once(venv / ".installed", requirements, commands, cls.home)

    @classmethod
    def run(cls, environment, kept, files):
        junit = kept / f"{cls.home.name}.xml"
        python = cls.home / ".venv" / "bin" / "python"
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", f"--junit-xml={junit}", *files]
        code = finish(command, cls.home, environment | {"PYTHONDONTWRITEBYTECODE": "1"})
        text = junit.read_text() if junit.is_file() else ""
        total = counted(code, text, r'<testsuite [^>]*tests="(\d+)"', r'(?:errors|failures)="(\d+)"')
        return total[0] - total[1] if text else 0, total[1]


class OpenApiInNode(JavaScript):
    """Types generated from the OpenAPI document, and its page in Chromium."""

    home = HERE / "openapi"


class OpenApiInPython(Python):
    """The OpenAPI document in a validator and a fuzzer."""

    home = HERE / "openapi"
    old_versions = {}


class OpenApi:
    """The OpenAPI tests in Node and in Python."""

    @classmethod
    def install(cls):
        need_chromium()
        OpenApiInNode.install()
        OpenApiInPython.install()

    @classmethod
    def run(cls, environment, kept, files):
        node = [file for file in files if file.endswith(".mjs")]
        python = [file for file in files if file.endswith(".py")]
        counts = [OpenApiInNode.run(environment, kept, node)] if node or not files else []
        counts += [OpenApiInPython.run(environment, kept, python)] if python or not files else []
        return tuple(map(sum, zip(*counts)))


class Browser(JavaScript):
    """node:test files of browser/ that drive Chromium; they also run the Python program that the page shows."""

    home = HERE / "browser"

    @classmethod
    def install(cls):
        need_chromium()
        super().install()
        Python.install()

    @classmethod
    def run(cls, environment, kept, files):
        return super().run(environment | {"LATENTD_SHOTS": str(kept)}, kept, files)


class Rust:
    """Tests of the separate workspace rust/, one after another, in the environment of `latentd env`."""

    home = HERE / "rust"
    environment = {"CARGO_TARGET_DIR": f"{os.environ.get('CARGO_TARGET_DIR', ROOT / 'target')}/clients-rust"}

    @classmethod
    def install(cls):
        if not shutil.which("pkg-config") or subprocess.run(["pkg-config", "--exists", "openssl"]).returncode != 0:
            sys.exit("this suite needs OpenSSL's headers: on Debian: apt install pkg-config libssl-dev")
        command = ["cargo", "test", "--locked", "--no-run", "--quiet"]
        if subprocess.run(command, cwd=cls.home, env=os.environ | cls.environment).returncode != 0:
            sys.exit("the tests of the crate `fal` do not compile")

    @classmethod
    def run(cls, environment, kept, files):
        log = kept / "rust.log"
        command = f"""
            set -eo pipefail
            eval "$("$LATENTD_BIN" env --data-dir "$LATENTD_DATA")"
            export FAL_API_KEY=$FAL_KEY
            cargo test --locked --offline --color always -- --test-threads 1 2>&1 | tee {log}
        """
        code = finish(["bash", "-c", command], cls.home, environment | cls.environment)
        return counted(code, log.read_text() if log.is_file() else "", r"(\d+) passed", r"(\d+) failed")


class Isolated:
    """pytest files of isolated/, which run programs of many languages under `latentd run` in a network namespace."""

    home = HERE / "isolated"
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "clients-isolated"
    go = target / "go-program"

    @classmethod
    def install(cls):
        for program, package in (("ip", "iproute2"), ("java", "default-jdk-headless"), ("pasta", "passt"), ("curl", "curl")):
            if not shutil.which(program):
                sys.exit(f"this suite needs {program}: on Debian: apt install {package}")
        JavaScript.install_in(cls.home)
        requirements, venv = cls.home / "requirements.txt", cls.home / ".venv"
        commands = [
            [sys.executable, "-m", "venv", "--clear", venv],
            [venv / "bin/pip", "install", "--quiet", "--requirement", requirements],
        ]
        install_once(venv / ".installed", requirements, commands, cls.home)
        cls.target.mkdir(parents=True, exist_ok=True)
        build = ["env", "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GO111MODULE=off", f"GOCACHE={cls.target / 'go-cache'}"]
        build += [venv / "bin/go", "build", "-o", cls.go, "programs/main.go"]
        install_once(cls.target / ".built", cls.home / "programs" / "main.go", [build], cls.home)

    @classmethod
    def run(cls, environment, kept, files):
        junit = kept / "isolated.xml"
        python = cls.home / ".venv" / "bin" / "python"
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", f"--junit-xml={junit}", *files]
        if os.geteuid() != 0:
            command = ["unshare", "--map-root-user", *command]
        variables = {"PYTHONDONTWRITEBYTECODE": "1", "GO_PROGRAM": str(cls.go)}
        code = finish(command, cls.home, environment | variables)
        text = junit.read_text() if junit.is_file() else ""
        total = counted(code, text, r'<testsuite [^>]*tests="(\d+)"', r'(?:errors|failures)="(\d+)"')
        return total[0] - total[1] if text else 0, total[1]


SUITES = {
    "js": JavaScript,
    "python": Python,
    "openapi": OpenApi,
    "browser": Browser,
    "rust": Rust,
    "isolated": Isolated,
}


def need_chromium():
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    for program in (chromium, "curl"):
        if not shutil.which(program):
            sys.exit(f"this suite needs {program}: on Debian: apt install chromium curl")


def install_once(stamp, lock, commands, directory):
    """Runs `commands` unless they ran before with the same lock file."""
    wanted = lock.read_bytes()
    if stamp.is_file() and stamp.read_bytes() == wanted:
        return
    for command in commands:
        done = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}: ended with {done.returncode}")
    stamp.write_bytes(wanted)


def finish(command, directory, environment):
    """Runs a suite to its end; kills it, and everything it started, when it takes too long."""
    process = subprocess.Popen(
        command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait(SUITE_WITHIN_S)
    except subprocess.TimeoutExpired:
        print(f"FAILED: {command[0]} was still running after {SUITE_WITHIN_S} s")
        return 1
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def counted(code, text, passed, failed):
    """Passed and failed tests of a report; a suite that failed without a failed test counts as one failure."""
    numbers = [sum(map(int, re.findall(pattern, text, re.MULTILINE))) for pattern in (passed, failed)]
    if code != 0 and numbers[1] == 0:
        numbers[1] = 1
    if code == 0 and numbers[0] == 0:
        print("FAILED: a suite that ran no test")
        numbers[1] += 1
    return numbers
