"""The pack: one file that, with a checkout, lets a machine without cargo check and measure this commit on its GPU.

It contains executables, the peers' Python packages, and the commit. Repeated data, such as the kernels in several
executables, is compressed away, since the compressor's window is as long as the pack. Copies of the checkout's files in the
executables, such as the built-in model, are blanked when packing and restored when unpacking. Device code is carried only for
the architecture of the GPU's machine, and as PTX; modules that have neither stay as they are.
"""

import hashlib
import io
import json
import lzma
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

from gpu_check import fatbins

ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "benches/peers/requirements.txt"
MIB = 1 << 20
# The limit of checkout and pack together.
LIMIT_MIB = 64
# The program, and cargo's test targets that need a GPU, with their names in the pack.
PROGRAM = "latentd"
TESTS = {"gpu": "test-gpu", "latentd_kernels": "test-kernels", "latentd_models": "test-models", "ops": "ops"}
# The architecture of the GPU's machine: Hopper, sm_90.
ARCH = 90
# The peers' pipelines, and other packages of diffusers that they do not import: together they are half of it.
PIPELINES = ("controlnet", "controlnet_sd3", "stable_diffusion", "stable_diffusion_3")
UNUSED = ("diffusers/commands/", "diffusers/modular_pipelines/")
# Smaller files of the checkout are not searched for in executables.
SMALLEST_BLANKED = 64 << 10


def pack(file: pathlib.Path, spare_mib: float) -> None:
    """Builds for CUDA, packs into `file`, and prints its size; more than the limit is an error."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    with tempfile.TemporaryDirectory() as folder:
        stage = pathlib.Path(folder)
        build(target, stage / "bin")
        unpack_wheels(wheels(target / "peers"), stage / "site")
        (stage / "commit").write_text(run("git", "rev-parse", "HEAD"), encoding="utf-8")
        blanked = [blank(executable) for executable in sorted((stage / "bin").iterdir())]
        (stage / "executables.json").write_text(json.dumps(blanked, indent=1) + "\n", encoding="utf-8")
        compress(stage, file)
    report(file, spare_mib)


def build(target: pathlib.Path, folder: pathlib.Path) -> None:
    """Builds the program and the tests for CUDA, stripped."""
    # GPU_CHECK_PROFILE=dev packs the build of scripts/test-cuda, to test the calls; their times are meaningless then. With
    # the examples and with otlp nothing is compiled again.
    profile = os.environ.get("GPU_CHECK_PROFILE", "release")
    targets, features = (("--bins", "--examples"), "cuda,otlp") if profile == "dev" else ((), "cuda")
    toolchain = os.environ.get("CUDA_TOOLCHAIN_DIR", str(target / "cuda"))
    script = 'eval "$(scripts/cuda-toolchain "$1")"; shift; exec cargo "$@"'

    def cargo(*words: str) -> list[dict]:
        command = ["bash", "-euc", script, "cargo", toolchain, *words, "--message-format=json-render-diagnostics"]
        env = os.environ | {"CARGO_TARGET_DIR": str(target)}
        lines = subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        messages = [json.loads(line) for line in lines if line.startswith("{")]
        return [message for message in messages if message.get("executable")]

    common = ("--workspace", "--features", features, "--locked")
    program = cargo("build", *common, *targets, "--profile", profile)
    tests = cargo("test", *common, "--no-run", "--lib", "--test", "gpu", "--bench", "ops")
    folder.mkdir()
    for message in program:
        if message["target"]["name"] == PROGRAM and message["target"]["kind"] == ["bin"]:
            shutil.copy(message["executable"], folder / PROGRAM)
    for message in tests:
        if name := TESTS.get(message["target"]["name"]):
            shutil.copy(message["executable"], folder / name)
    lacking = {PROGRAM, *TESTS.values()} - {path.name for path in folder.iterdir()}
    if lacking:
        raise SystemExit(f"cargo built no {', '.join(sorted(lacking))}")
    subprocess.run(["strip", *folder.iterdir()], check=True)


def wheels(folder: pathlib.Path) -> list[pathlib.Path]:
    """The wheels of benches/peers/requirements.txt, fetched into `folder` unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = REQUIREMENTS.read_bytes()
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_bytes() != wanted:
        for old in folder.glob("*.whl"):
            old.unlink()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--only-binary=:all:", "-d", folder, "-r", REQUIREMENTS], check=True)
        stamp.write_bytes(wanted)
    return sorted(folder.glob("*.whl"))


def unpack_wheels(files: list[pathlib.Path], folder: pathlib.Path) -> None:
    """Unpacks pure Python wheels into a folder for PYTHONPATH, without what no peer imports."""
    for file in files:
        with zipfile.ZipFile(file) as wheel:
            wheel.extractall(folder, filter(is_used, wheel.namelist()))


def is_used(member: str) -> bool:
    package, _, inside = member.removeprefix("diffusers/pipelines/").partition("/")
    if member.startswith("diffusers/pipelines/") and inside:
        return package in PIPELINES
    return not member.startswith(UNUSED)


def blank(executable: pathlib.Path) -> dict:
    """Overwrites what the pack need not carry with zeros: device code of other architectures, for good, and copies of the
    checkout's files; returns the offsets of those, and the checksum with them."""
    whole = bytearray(executable.read_bytes())
    fatbins.keep_only(whole, ARCH)
    contents, found = bytes(whole), []
    for path in run("git", "ls-files").splitlines():
        file = ROOT / path
        if not file.is_file() or file.stat().st_size < SMALLEST_BLANKED:
            continue
        wanted = file.read_bytes()
        if (at := contents.find(wanted)) >= 0:
            whole[at : at + len(wanted)] = bytes(len(wanted))
            found.append({"path": path, "at": at})
    executable.write_bytes(whole)
    return {"name": executable.name, "sha256": hashlib.sha256(contents).hexdigest(), "blanked": found}


def restore(folder: pathlib.Path, made: dict) -> None:
    """Restores the files that `blank` removed."""
    file = folder / made["name"]
    contents = bytearray(file.read_bytes())
    for piece in made["blanked"]:
        bytes_ = (ROOT / piece["path"]).read_bytes()
        contents[piece["at"] : piece["at"] + len(bytes_)] = bytes_
    if hashlib.sha256(contents).hexdigest() != made["sha256"]:
        raise SystemExit(f"{made['name']} is not what was packed: is the checkout of the pack's commit?")
    file.write_bytes(contents)
    file.chmod(0o755)


def compress(stage: pathlib.Path, file: pathlib.Path) -> None:
    """A tar of the folder, compressed by LZMA with a window of its whole length, which Python can read on any machine."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        tar.add(stage, ".", filter=plain)
    window = min(max(1 << (whole.tell() - 1).bit_length(), 1 << 20), 512 * MIB)
    # Hash chains take a third less memory than the preset's binary trees: 6.5 times the window at most, not 10.5.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": window, "mf": lzma.MF_HC4}]
    file.write_bytes(lzma.compress(whole.getbuffer(), filters=filters))


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Removes the packing machine's user and times."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def unpack(file: pathlib.Path, folder: pathlib.Path) -> str:
    """Unpacks into `folder`, ready to run; returns the pack's commit."""
    with tarfile.open(file, mode="r:xz") as tar:
        tar.extractall(folder, filter="data")
    for made in json.loads((folder / "executables.json").read_text(encoding="utf-8")):
        restore(folder / "bin", made)
    return (folder / "commit").read_text(encoding="utf-8").strip()


def report(file: pathlib.Path, spare_mib: float) -> None:
    """Prints the size of checkout and pack, and ends the program if they are too large."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    paths = [ROOT / path for path in listed if path]
    carried = {path: path.lstat().st_size for path in paths if path.is_file() and path != file.resolve()}
    tree, packed = sum(carried.values()), file.stat().st_size
    mib = lambda size: f"{size / MIB:.1f} MiB"
    for path, size in sorted(carried.items(), key=lambda item: -item[1])[:5]:
        print(f"  {mib(size):>9}  {path.relative_to(ROOT)}")
    spare = LIMIT_MIB - (tree + packed) / MIB
    print(f"tree {mib(tree)} + pack {mib(packed)} = {mib(tree + packed)} of {LIMIT_MIB} MiB, {spare:.1f} MiB left")
    if spare < 0:
        raise SystemExit(f"too large: {LIMIT_MIB} MiB at most")
    if spare < spare_mib:
        raise SystemExit(f"too large: {spare_mib:.0f} MiB must be left")


def run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
