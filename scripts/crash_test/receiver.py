"""A receiver of webhooks, which answers some of the first deliveries with an error."""

import collections
import http.server
import json
import threading
import time
import zlib

from .processes import free_port


class Receiver:
    """Remembers every message that it has accepted, by request."""

    def __init__(self):
        self.url = f"http://127.0.0.1:{free_port()}/hook"
        self.accepted = collections.defaultdict(list)
        self.refused = set()
        self.lock = threading.Lock()
        port = int(self.url.rpartition(":")[2].partition("/")[0])
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver.receive(body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def receive(self, body):
        """The status to answer with: an error for the first message of every third request."""
        request = json.loads(body)["request_id"]
        with self.lock:
            if zlib.crc32(request.encode()) % 3 == 0 and request not in self.refused:
                self.refused.add(request)
                return 503
            self.accepted[request].append((time.monotonic(), body))
            return 200

    def messages(self, request):
        with self.lock:
            return [body for _, body in self.accepted[request]]

    def restore(self, accepted, at):
        """Forgets all but those of these messages that had arrived by then."""
        with self.lock:
            self.accepted.clear()
            for request, messages in accepted.items():
                self.accepted[request] = [message for message in messages if message[0] < at]
