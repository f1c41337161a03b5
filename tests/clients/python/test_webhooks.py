"""A submit with webhook_url=, received and verified as fal documents."""

import base64
import hashlib
import http.server
import json
import queue
import threading
import time
import urllib.parse

import fal_client
import httpx
import pytest
import wire
from conftest import BASE
from nacl.encoding import HexEncoder
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from support import ENDPOINT, check_output, small


@pytest.fixture
def receiver():
    """The URL of a receiver on this machine, and the messages it receives: headers and raw body."""
    messages = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            messages.put((dict(self.headers), self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook?a=1", messages
    server.shutdown()


def verify(headers, body):
    """The verification of fal's documentation of webhooks: any key of the set may have signed."""
    header = {name.lower(): value for name, value in headers.items()}
    timestamp = header["x-fal-webhook-timestamp"]
    if abs(int(time.time()) - int(timestamp)) > 300:
        return False
    message = "\n".join(
        [
            header["x-fal-webhook-request-id"],
            header["x-fal-webhook-user-id"],
            timestamp,
            hashlib.sha256(body).hexdigest(),
        ]
    ).encode("utf-8")
    signature = bytes.fromhex(header["x-fal-webhook-signature"])
    for key in httpx.get(f"{BASE}/.well-known/jwks.json").json()["keys"]:
        public = base64.urlsafe_b64decode(key["x"] + "==")
        try:
            VerifyKey(public.hex(), encoder=HexEncoder).verify(message, signature)
            return True
        except BadSignatureError:
            continue
    return False


def test_a_result_arrives_signed(receiver):
    url, messages = receiver
    handle = fal_client.submit(ENDPOINT, small(), webhook_url=url)
    headers, body = messages.get(timeout=60)
    assert verify(headers, body)
    assert not verify(headers, body + b" ")
    message = json.loads(body)
    assert message["request_id"] == message["gateway_request_id"] == handle.request_id
    assert message["status"] == "OK" and message["error"] is None
    assert message["payload"] == handle.get()
    assert wire.call("POST")["url"].endswith(f"?{urllib.parse.urlencode({'fal_webhook': url})}")
    check_output(message["payload"])


def test_an_error_arrives_signed(receiver):
    url, messages = receiver
    handle = fal_client.submit(ENDPOINT, {"num_images": 9}, webhook_url=url)
    headers, body = messages.get(timeout=60)
    assert verify(headers, body)
    message = json.loads(body)
    assert message["request_id"] == handle.request_id
    assert message["status"] == "ERROR" and message["error"] == "Invalid status code: 422"
    assert {tuple(problem["loc"]) for problem in message["payload"]["detail"]} >= {("body", "prompt")}


def test_an_address_that_is_not_allowed_is_refused():
    with pytest.raises(fal_client.FalClientHTTPError) as refused:
        fal_client.submit(ENDPOINT, small(), webhook_url="http://169.254.169.254/latest/meta-data")
    assert refused.value.status_code == 400
    assert "--webhook-allow" in str(refused.value)
