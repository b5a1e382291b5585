"""aiohttp's server, but for what it answers by itself: a request that is no HTTP, or is refused before the middleware
sees it, is answered in the shape of every other error."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError

from diarserve.core.errors import ExpectationFailed, InvalidRequest, ServiceError
from diarserve.http.client_address import is_trusted_proxy
from diarserve.http.context import CONNECTIONS, SERVICE
from diarserve.http.middleware import answer_errors, refusal

log = logging.getLogger(__name__)

# What a client's broken body, or its going away, raises outside of handlers.
_CLIENTS_FAULTS = (HttpProcessingError, web.RequestPayloadError, ConnectionError)
_LINGER = 2.0  # seconds for a client that is refused: to ask, and to read why


class Runner(web.AppRunner):
    """web.AppRunner with the server below."""

    async def _make_server(self) -> web.Server:
        return Server(await super()._make_server(), self.app)


class Server(web.Server):
    def __init__(self, made: web.Server, app: web.Application) -> None:
        """made: by aiohttp, for the application."""
        super().__init__(
            self._handle,
            request_factory=self._made,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **{**made._kwargs, "keepalive_timeout": app[SERVICE].settings.limits.idle_timeout},
        )
        self.app = app
        self._route, self._request = made.request_handler, made.request_factory

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def _made(self, message: RawRequestMessage, *rest: Any) -> web.BaseRequest:
        if message.version not in (HttpVersion10, HttpVersion11):  # it has their form, and is answered in it
            message = message._replace(version=HttpVersion11)
        return self._request(message, *rest)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
            return self.refuse(ExpectationFailed("Of Expect, only 100-continue is understood."), request)
        if isinstance(request.protocol, Connection) and request.protocol.too_many:
            refused = self.refuse(self.app[CONNECTIONS].refusal(), request)
            refused.force_close()
            return refused
        assert isinstance(request, web.Request)
        return await answer_errors(request, self._route)

    def refuse(self, error: ServiceError, request: web.BaseRequest) -> web.Response:
        return refusal(error, request, self.app[SERVICE].metrics)


class Connection(web.RequestHandler):
    """With limits beside aiohttp's `keepalive_timeout`: seconds for the first request's head, seconds that a client may
    leave its answer, and a number of connections for each client."""

    __slots__ = ("_address", "_head_timer", "_refused", "_server", "too_many")

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(server, **options)
        self.too_many = False  # whether its client has as many as it may without this one, and is told so when it asks
        self._server = server
        self._address = ""  # under which it is counted
        self._head_timer: asyncio.TimerHandle | None = None
        self._refused: web.StreamResponse | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        limits, counted = self._server.app[SERVICE].settings.limits, self._server.app[CONNECTIONS]
        self._address = self._countable_peer()
        number = counted.take(self._address) if self._address else 0
        self.too_many = number > counted.most
        if number > 2 * counted.most:  # no answer made it stop
            self.force_close()
        else:
            patience = _LINGER if self.too_many else limits.head_timeout
            self._head_timer = self._loop.call_later(patience, self._end_silent)
            _give_up_after(transport, limits.idle_timeout)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._head_timer:
            self._head_timer.cancel()
        if self._address:
            self._server.app[CONNECTIONS].give_back(self._address)
            self._address = ""

    def _end_silent(self) -> None:
        if not self._request_count:
            self.force_close()

    def _countable_peer(self) -> str:
        """The other end's IP address; empty where it has none, or speaks for many clients."""
        address = str(self.peername[0]) if isinstance(self.peername, tuple) else ""
        return "" if is_trusted_proxy(address, self._server.app[SERVICE].settings.access) else address

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):  # the client has gone; aiohttp ends the connection
            raise exc
        if isinstance(exc, HttpProcessingError):
            log.debug("a request that is no valid HTTP was refused: %s", type(exc).__name__)
            why = (message or exc.message).partition("\n")[0].rstrip(": ")[:200]
            error: ServiceError = InvalidRequest(f"This is no valid HTTP request: {why}")
        else:
            self.log_exception("%s %s failed", request.method, request.path, exc_info=exc)
            error = ServiceError("The server failed on this request; its log says why.")
        self._refused = self._server.refuse(error, request)
        self._refused.force_close()
        return self._refused

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        if resp is self._refused and self.transport is not None and self.transport.can_write_eof():
            # Closed while more arrives, the kernel resets the connection, and the client may not get to read why.
            self.close()  # what still arrives is read and dropped
            self.transport.write_eof()
            await asyncio.sleep(_LINGER)  # cancelled when the client closes
        return finished

    def log_exception(self, *args: Any, **kw: Any) -> None:
        if isinstance(kw.get("exc_info"), _CLIENTS_FAULTS):
            log.debug("a request was cut short or is no valid HTTP: %s", type(kw["exc_info"]).__name__)
        else:
            super().log_exception(*args, **kw)


def _give_up_after(transport: asyncio.BaseTransport, seconds: float) -> None:
    """End the connection when its other end does not take what is sent for so long: it has gone, or never reads."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * seconds))
