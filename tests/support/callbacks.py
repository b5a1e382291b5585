"""A receiver of callbacks, in threads of the test's own process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Callbacks:
    url: str
    # The bodies of every callback, by its webhook-id, which is that of its task.
    bodies: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    traceparents: dict[str, str | None] = field(default_factory=dict)


@contextmanager
def receiving(address: str = "127.0.0.1") -> Iterator[Callbacks]:
    """Take all callbacks that are sent to the receiver's address, and answer 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            callbacks.traceparents[self.headers["webhook-id"]] = self.headers["traceparent"]
            callbacks.bodies[self.headers["webhook-id"]].append(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer((address, 0), Handler) as server:
        callbacks = Callbacks(f"http://{address}:{server.server_port}/")
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield callbacks
        finally:
            server.shutdown()
            thread.join()
