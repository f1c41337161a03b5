"""Unmodified programs in the environment of `latentd env`: this server answers all their calls, and nothing leaves this
machine."""

import json
import pathlib
import socket
import ssl
import sys

import pytest
from intercepted import ADDRESS, INTERCEPT, PROGRAMS, assert_stayed_here, run


@pytest.mark.parametrize("old", [None, "fal_client_0_5_9", "fal_client_0_5_0"])
def test_unmodified(tmp_path, old):
    path = [pathlib.Path(sys.prefix) / old] if old else []
    done, seen = run(tmp_path, [PROGRAMS / "unmodified.py"], path)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert f"/{old or 'site-packages'}/" in printed["client"]
    assert len(printed["images"]) == 4
    for image in printed["images"]:
        assert image["url"].startswith("https://v3.fal.media/files/")
        assert image["type"] == "image/jpeg"
    assert any(line.startswith("step 4/4") for line in printed["messages"])
    assert printed["events"] >= 1
    assert printed["status_url"].startswith("https://queue.fal.run/")
    assert printed["uploaded"].startswith("https://v3.fal.media/files/") and printed["read"] == "words"
    assert_stayed_here(seen)


def test_proxy_settings_from_before_are_overridden(tmp_path):
    past = {"NO_PROXY": "*", "no_proxy": ".fal.run,fal.ai", "https_proxy": "http://127.0.0.1:1"}
    done, seen = run(tmp_path, [PROGRAMS / "unmodified.py"], variables=past)
    assert done.returncode == 0, done.stderr
    assert_stayed_here(seen)


def test_hosts_in_the_environment_instead_of_a_proxy(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import fal_client, httpx, json, sys\n"
        "endpoint, arguments = sys.argv[1], json.loads(sys.argv[2])\n"
        "results = [fal_client.subscribe(endpoint, arguments), fal_client.run(endpoint, arguments),\n"
        "           list(fal_client.stream(endpoint, arguments))[-1]]\n"
        "urls = [result['images'][0]['url'] for result in results]\n"
        "print(json.dumps([urls, [httpx.get(url).status_code for url in urls]]))\n"
    )
    hosts = {"FAL_RUN_HOST": ADDRESS, "FAL_QUEUE_RUN_HOST": f"{ADDRESS}/queue"}
    done, seen = run(tmp_path, [program], variables=hosts, change="unset HTTPS_PROXY https_proxy")
    assert done.returncode == 0, done.stderr
    urls, statuses = json.loads(done.stdout)
    assert all(url.startswith(f"https://{ADDRESS}/files/") for url in urls) and statuses == [200] * 3
    assert_stayed_here(seen)


def test_other_hosts_are_refused_and_the_error_names_the_flag(tmp_path):
    done, seen = run(tmp_path, ["-c", "import httpx; httpx.get('https://example.com/')"])
    assert "--intercept-tunnel, or NO_PROXY=example.com" in done.stderr
    assert_stayed_here(seen)


# Code that uses no proxy: asyncio, http.client, and host names in other spellings.
WITHOUT_A_PROXY = """
import asyncio, http.client, socket
async def ask():
    reader, writer = await asyncio.open_connection("queue.fal.run", 443, ssl=True)
    writer.write(b"GET /health/live HTTP/1.1\\r\\nhost: queue.fal.run\\r\\nconnection: close\\r\\n\\r\\n")
    return await reader.read()
assert asyncio.run(ask()).startswith(b"HTTP/1.1 200 ")
connection = http.client.HTTPSConnection("Rest.Fal.AI")
connection.request("GET", "/.well-known/jwks.json", headers={"host": "rest.fal.ai"})
assert connection.getresponse().status == 200
socket.create_connection((b"fal.run.", 443)).close()
"""
WITHOUT_HOOKS = f"unset HTTPS_PROXY https_proxy; PYTHONPATH={PROGRAMS / 'record_connections'}"


def test_code_that_ignores_the_proxy_stays_here(tmp_path):
    done, seen = run(tmp_path, ["-c", WITHOUT_A_PROXY])
    assert done.returncode == 0, done.stderr
    assert_stayed_here(seen)


def test_without_the_python_hook_fals_hosts_are_looked_up(tmp_path):
    done, seen = run(tmp_path, ["-c", WITHOUT_A_PROXY], change=WITHOUT_HOOKS)
    assert done.returncode != 0
    assert seen == ["lookup queue.fal.run:443"]


def test_the_proxy_alone_is_enough_for_the_client(tmp_path):
    done, seen = run(tmp_path, [PROGRAMS / "unmodified.py"], change=f"PYTHONPATH={PROGRAMS / 'record_connections'}")
    assert done.returncode == 0, done.stderr
    assert_stayed_here(seen)


@pytest.mark.parametrize("name", ["queue.fal.run", "rest.alpha.fal.ai", "v3.fal.media", "falrun.com", "127.0.0.1"])
def test_openssl_at_its_strictest_trusts_the_certificates(name):
    context = ssl.create_default_context(cafile=str(INTERCEPT / "ca.pem"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    host, port = ADDRESS.split(":")
    with socket.create_connection((host, int(port))) as plain:
        with context.wrap_socket(plain, server_hostname=name) as secure:
            certificate = secure.getpeercert()
            assert certificate["issuer"][0][0][1].startswith("latentd intercept")
            # BoringSSL rejects IP addresses under name constraints, so only a client that connects by address gets one.
            kinds = {"DNS", "IP Address"} if name == "127.0.0.1" else {"DNS"}
            assert {kind for kind, _ in certificate["subjectAltName"]} == kinds


def test_huggingface_hub(tmp_path):
    done, seen = run(tmp_path, [PROGRAMS / "huggingface.py"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[128, 96], [128, 96]]
    assert_stayed_here(seen)
