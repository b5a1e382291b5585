"""An HTTP server of the standard library, in threads of the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class QuietHandler(BaseHTTPRequestHandler):
    """One that logs nothing."""

    def log_message(self, format: str, *values: object) -> None:
        pass


class _Files(QuietHandler, SimpleHTTPRequestHandler):
    pass


@contextmanager
def serving_http(handler: Callable[..., BaseHTTPRequestHandler], address: str = "127.0.0.1") -> Iterator[str]:
    """Requests are answered by the handler in threads, on a free port; the server's URL."""
    with ThreadingHTTPServer((address, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{address}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def serving_files(folder: Path) -> AbstractContextManager[str]:
    """The files of a folder over HTTP."""
    return serving_http(partial(_Files, directory=str(folder)))
