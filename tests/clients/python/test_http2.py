"""httpx as an HTTP/2-only client. It calls the server directly, since the recording proxy speaks HTTP/1.1."""

import json
import time

import httpx
from intercepted import assert_stayed_here, run
from processes import own_server
from support import ENDPOINT, check_output, small


def test_by_prior_knowledge_without_tls(tmp_path):
    with own_server(tmp_path / "data", "--safety-checker", "none", recorded=False) as base:
        with httpx.Client(http1=False, http2=True, base_url=base, timeout=60) as client:
            submitted = client.post(f"/queue/{ENDPOINT}", json=small())
            assert (submitted.status_code, submitted.http_version) == (200, "HTTP/2")
            status_url = submitted.json()["status_url"]
            while client.get(status_url).json()["status"] != "COMPLETED":
                time.sleep(0.05)
            result = client.get(submitted.json()["response_url"])
            assert (result.status_code, result.http_version) == (200, "HTTP/2")
            check_output(result.json())
            uploaded = client.post("/files/upload", content=b"words" * 100_000, headers={"content-type": "text/plain"})
            assert client.get(uploaded.json()["access_url"]).content == b"words" * 100_000
            with client.stream("POST", f"/run/{ENDPOINT}/stream", json=small()) as stream:
                events = [line for line in stream.iter_lines() if line.startswith("data: ")]
            assert len(json.loads(events[-1].removeprefix("data: "))["images"]) == 1


def test_over_tls_by_fals_host_names(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import httpx, json, sys\n"
        "endpoint, arguments = sys.argv[1], json.loads(sys.argv[2])\n"
        "with httpx.Client(http1=False, http2=True, timeout=60, headers={'authorization': 'Key of:mine'}) as client:\n"
        "    ran = client.post(f'https://fal.run/{endpoint}', json=arguments)\n"
        "    image = client.get(ran.json()['images'][0]['url'])\n"
        "print(json.dumps([[ran.http_version, ran.status_code], [image.http_version, image.status_code]]))\n"
    )
    done, seen = run(tmp_path, [program])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["HTTP/2", 200]] * 2
    assert_stayed_here(seen)
