"""Webhooks and pictures over https: from servers whose certificate the system trusts, and from no other."""

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

HOUSE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "pictures" / "red-house.jpg"


class Stranger(http.server.BaseHTTPRequestHandler):
    """Has a picture for who gets, and keeps what is posted."""

    def do_GET(self):
        picture = HOUSE.read_bytes()
        self.send_response(200)
        self.send_header("content-type", "image/jpeg")
        # Without it the picture would end where the connection does, which over TLS is an end that anybody can make.
        self.send_header("content-length", str(len(picture)))
        self.end_headers()
        self.wfile.write(picture)

    def do_POST(self):
        self.server.messages.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def stranger(tmp_path):
    """Serves `localhost` over TLS; gives its URL, what is posted to it, and the file of the authority behind it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    roots = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(roots)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    server.messages = queue.Queue()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}", server.messages, str(roots)
    server.shutdown()


def test_a_trusted_server_gets_webhooks_and_gives_pictures(tmp_path, client_of, stranger):
    url, messages, roots = stranger
    with own_server(tmp_path / "data", SSL_CERT_FILE=roots) as base:
        client = client_of(base)
        model = f"{ENDPOINT}/image-to-image"
        handle = client.submit(model, small(image_url=f"{url}/house.jpg"), webhook_url=f"{url}/hook")
        message = messages.get(timeout=60)
        assert message["request_id"] == handle.request_id and message["status"] == "OK", message
        check_output(message["payload"])


def test_a_certificate_of_nobody_known_is_an_error_of_the_field(tmp_path, client_of, stranger):
    url, messages, _ = stranger
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
    assert messages.empty(), "the webhook went to a server that nobody vouches for"
