"""A receiver of POST requests, in threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message

from tests.support.http_server import QuietHandler, serving_http


@contextmanager
def receiving_posts(take: Callable[[str, Message, bytes], None], address: str = "127.0.0.1") -> Iterator[str]:
    """Call `take` with path, headers and body of each, and answer 200 with an empty body. The receiver's URL."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            take(self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", self.headers["Content-Type"])
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving_http(Handler, address) as url:
        yield url
