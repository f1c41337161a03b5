"""Webhooks and initial images over https: only with servers whose certificate the system trusts."""

import http.server
import json
import pathlib
import queue
import ssl
import threading

import pytest
import trustme
from processes import own_server
from support import ENDPOINT, check_output, small

HOUSE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "images" / "red-house.jpg"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves an image to GET, and records the bodies of POST."""

    def do_GET(self):
        image = HOUSE.read_bytes()
        self.send_response(200)
        self.send_header("content-type", "image/jpeg")
        # Without a length the end of the connection would end the image, and over TLS anybody can close a connection.
        self.send_header("content-length", str(len(image)))
        self.end_headers()
        self.wfile.write(image)

    def do_POST(self):
        self.server.messages.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def https_server(tmp_path):
    """A server of `localhost` over TLS; yields its URL, the messages posted to it, and the file of its certificate authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    roots = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(roots)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.messages = queue.Queue()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}", server.messages, str(roots)
    server.shutdown()


def test_a_trusted_server_receives_webhooks_and_serves_images(tmp_path, client_of, https_server):
    url, messages, roots = https_server
    with own_server(tmp_path / "data", SSL_CERT_FILE=roots) as base:
        client = client_of(base)
        model = f"{ENDPOINT}/image-to-image"
        handle = client.submit(model, small(image_url=f"{url}/house.jpg"), webhook_url=f"{url}/hook")
        message = messages.get(timeout=60)
        assert message["request_id"] == handle.request_id and message["status"] == "OK", message
        check_output(message["payload"])


def test_an_untrusted_certificate_is_an_error_of_the_field(tmp_path, client_of, https_server):
    url, messages, _ = https_server
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with own_server(tmp_path / "data", SSL_CERT_FILE=str(other)) as base:
        handle = client_of(base).submit(
            f"{ENDPOINT}/image-to-image", small(image_url=f"{url}/house.jpg"), webhook_url=f"{url}/hook"
        )
        with pytest.raises(Exception) as error:
            handle.get()
        (problem,) = error.value.response.json()["detail"]
        assert problem["loc"] == ["body", "image_url"] and problem["type"] == "file_download_error", problem
    assert messages.empty(), "the webhook was sent to a server with an untrusted certificate"
