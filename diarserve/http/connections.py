"""Client connections: how many may be open, so that descriptors are left for workers, files and the store."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiohttp import web

from diarserve.core.errors import NotReady
from diarserve.http.security_headers import SECURITY_HEADERS

if TYPE_CHECKING:
    from diarserve.observe.metrics import Metrics

log = logging.getLogger(__name__)

_RESERVE = 64  # descriptors: the server itself has some 20, the store 3, and a start of a worker takes 6 for a moment
_PER_WORKER = 4  # its channel and its pidfd, and as much again while the next one is started
_MOST = 4096  # more are of no use: they idle, at some 20 kB of memory each
_FEWEST = 4  # also where descriptors are too few for that: the server still answers its probes
_QUIET = 10.0  # seconds between log lines that say the same


def most_connections(descriptors: int, workers: int) -> int:
    """How many connections may be open at a time. Each may need two descriptors: its own and its upload's.

    >>> most_connections(1024, workers=3)
    474
    """
    return max(_FEWEST, min(_MOST, (descriptors - _RESERVE - _PER_WORKER * workers) // 2))


class LimitedConnections:
    """A factory of protocols, as `loop.create_server` wants one, which counts the open connections of an HTTP server.
    Where there are `most`, another one is answered 503 `not_ready`, counted and closed.

    connections = LimitedConnections(runner.server, 474, metrics)
    server = await loop.create_server(connections, "127.0.0.1", 8000)
    """

    def __init__(self, server: web.Server, most: int, metrics: Metrics) -> None:
        self._server = server
        self._most = most
        self._metrics = metrics
        self._say = Seldom(log.warning)

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) < self._most:
            return self._server()
        error = NotReady("Too many connections are open; try again later.", retry_after=1)
        self._metrics.rejects.labels(error.code).inc()
        self._say("%d client connections are open (limits.max_connections): another one is refused", self._most)
        return _Refusal(error)


class _Refusal(asyncio.Protocol):
    """Answers before it is asked: to wait for the request would take the descriptor that is to be saved."""

    def __init__(self, error: NotReady) -> None:
        self._error = error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writable = cast(asyncio.Transport, transport)  # uvloop's is none by type
        writable.write(_answer(self._error))
        writable.close()


def _answer(error: NotReady) -> bytes:
    """In the shape of every other error."""
    body = msgspec.json.encode(error.body())
    fields = {
        "Content-Type": "application/json",
        "Content-Length": len(body),
        "Connection": "close",
        "Retry-After": error.retry_after,
        "X-Request-ID": uuid.uuid4().hex,  # the one that the client would send is not read
        **SECURITY_HEADERS,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {error.status} Service Unavailable\r\n{head}\r\n".encode() + body


class Seldom:
    """Logs a line, but not again within ten seconds."""

    def __init__(self, write: Callable[..., None]) -> None:
        self._write = write
        self._next = 0.0  # on the monotonic clock

    def __call__(self, message: str, *values: object) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _QUIET
            self._write(message, *values)


def survive_shortage(loop: asyncio.AbstractEventLoop) -> None:
    """Where no connection can be accepted for want of descriptors, log one line. asyncio goes on by itself after a
    second, but logs a traceback for every connection that its backlog has room for, 128 of them a second."""
    say = Seldom(log.error)

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if str(context.get("message", "")).startswith("socket.accept() out of system resource"):
            say("no connection can be accepted: %s; trying again every second", context.get("exception"))
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
