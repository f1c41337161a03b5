"""huggingface_hub and latentd share one cache: neither downloads again what the other has downloaded.

The hub is the stand-in of tests/hub; these tests also show that huggingface_hub accepts it as a hub.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import urllib.request

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download

ROOT = pathlib.Path(__file__).resolve().parents[3]
MODEL = ROOT / "tests/parity/golden/base/model"
NAME = "me/tiny"
PROGRAM = pathlib.Path(os.environ["LATENTD_BIN"])
FILES = {path.relative_to(MODEL).as_posix(): path.read_bytes() for path in MODEL.rglob("*") if path.is_file()}


class Hub:
    def __init__(self, url, cache):
        self.url = url
        self.cache = cache

    def sent(self):
        """Bytes of each file that the hub has sent."""
        return json.load(urllib.request.urlopen(f"{self.url}/stand-in/sent"))

    def options(self):
        return {"repo_id": NAME, "cache_dir": self.cache, "endpoint": self.url, "token": False}

    def latentd(self, *arguments):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "LATENTD_"))}
        environment |= {"HF_ENDPOINT": self.url, "HF_HUB_CACHE": str(self.cache)}
        done = subprocess.run([PROGRAM, "models", *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def hub(tmp_path):
    program = PROGRAM.parent / "examples" / "hub-stand-in"
    assert program.exists(), "run `cargo build --examples`"
    command = [program, f"{NAME}={MODEL}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Hub(process.stdout.readline().strip(), tmp_path / "cache")
        process.stdin.close()


def is_complete(directory):
    return all((pathlib.Path(directory) / path).read_bytes() == content for path, content in FILES.items())


def test_files_that_latentd_pulled_are_found(hub):
    directory = hub.latentd("pull", NAME).strip()
    assert is_complete(directory)
    assert snapshot_download(**hub.options(), local_files_only=True) == directory
    for path in FILES:
        assert hf_hub_download(filename=path, **hub.options(), local_files_only=True) == f"{directory}/{path}"
    sent = hub.sent()
    assert snapshot_download(**hub.options()) == directory
    assert hub.sent() == sent


def test_a_snapshot_that_huggingface_hub_downloaded_is_used(hub):
    directory = snapshot_download(**hub.options())
    assert is_complete(directory)
    sent = hub.sent()
    assert hub.latentd("pull", NAME).strip() == directory
    assert json.loads(hub.latentd("verify", NAME, "--json"))["ok"]
    listed = {model["name"]: model for model in json.loads(hub.latentd("list", "--json"))}
    assert listed[NAME]["state"] == "complete" and listed[NAME]["path"] == directory
    assert hub.sent() == sent


def test_a_file_that_huggingface_hub_downloaded_is_not_fetched_again(hub):
    path = "transformer/diffusion_pytorch_model.safetensors"
    hf_hub_download(filename=path, **hub.options())
    assert is_complete(hub.latentd("pull", NAME).strip())
    assert hub.sent()[path] == len(FILES[path])


def test_a_snapshot_in_a_local_directory_is_verified(hub, tmp_path):
    folder = tmp_path / "model"
    snapshot_download(repo_id=NAME, endpoint=hub.url, token=False, local_dir=folder)
    report = json.loads(hub.latentd("verify", str(folder), "--json"))
    assert report["ok"] and set(report["good"]) == set(FILES)


def test_the_stand_in_lists_files_as_the_hub_does(hub):
    api = HfApi(endpoint=hub.url, token=False)
    info = api.model_info(NAME, files_metadata=True)
    by_info = {file.rfilename: (file.size, file.blob_id, file.lfs and file.lfs.sha256) for file in info.siblings}
    files = [entry for entry in api.list_repo_tree(NAME, recursive=True) if hasattr(entry, "size")]
    by_tree = {file.path: (file.size, file.blob_id, file.lfs and file.lfs.sha256) for file in files}
    assert by_info == by_tree
    assert {path: len(content) for path, content in FILES.items()} == {path: entry[0] for path, entry in by_tree.items()}
