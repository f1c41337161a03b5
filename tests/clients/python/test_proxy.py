"""fal_client through a reverse proxy that serves the server below a prefix. Starts both."""

import http.server
import threading

import fal_client
import fal_client.client as C
import httpx
import pytest

from processes import own_server
from support import ENDPOINT, check_output, small

PREFIX = "/prefix"


class Proxy(http.server.BaseHTTPRequestHandler):
    """Forwards a call as nginx would: without the prefix, under another host name, with X-Forwarded headers."""

    upstream = None

    def do(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        headers |= {"x-forwarded-proto": "http", "x-forwarded-host": self.headers["host"], "x-forwarded-prefix": PREFIX}
        url = self.upstream + self.path.removeprefix(PREFIX)
        answer = httpx.request(self.command, url, content=body, headers=headers, timeout=60)
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_PUT = do

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    with own_server(tmp_path_factory.mktemp("behind"), "--trusted-proxy", "127.0.0.1") as url:
        proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("To", (Proxy,), {"upstream": url}))
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://localhost:{proxy.server_port}{PREFIX}"
        proxy.shutdown()


def test_urls_lead_through_the_proxy(proxied, monkeypatch):
    monkeypatch.setattr(C, "QUEUE_URL_FORMAT", proxied + "/queue/")
    monkeypatch.setattr(C, "REST_URL", proxied)
    monkeypatch.setattr(C, "CDN_URL", proxied)
    client = fal_client.SyncClient()
    handle = client.submit(ENDPOINT, small())
    assert handle.status_url.startswith(f"{proxied}/queue/{ENDPOINT}/requests/")
    output = handle.get()
    assert output["images"][0]["url"].startswith(f"{proxied}/files/")
    check_output(output)
    url = client.upload(b"words", "text/plain")
    assert url.startswith(f"{proxied}/files/") and httpx.get(url).content == b"words"
