"""A live session over a WebSocket, whatever protocol is spoken there.

    session = open_session(request, LiveOptions())  # refusals are answered instead of the handshake
    return await converse(request, MyDialect(session), MIB)

Pings are sent, but nobody waits for pongs: while a session is too far behind, nothing is read, pongs neither. A peer
that is gone is found by TCP_USER_TIMEOUT (diarserve.http.server), since a ping stays unacknowledged; one that says
nothing, by the session's own limits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Protocol

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from diarserve.core.errors import InvalidRequest, NotReady, RateLimited, ServiceError, TooLarge, Unauthorized
from diarserve.http.context import LIVE
from diarserve.http.drain import DRAIN
from diarserve.http.guard import client, is_still_known
from diarserve.http.live.upgrade import require_upgrade, subprotocols
from diarserve.live.events import Broken, Ended, Event
from diarserve.live.options import LiveOptions
from diarserve.live.session import LiveSession

log = logging.getLogger(__name__)

_AHEAD = 4  # events that are taken from the session before the client has those before them
_PING = 20.0  # seconds between pings: proxies end what is silent for 60
_KEY_CHECK = 2.0  # seconds between looks at whether the client's key was revoked
_PATIENCE = 15.0  # seconds for the client to take a message
_GOODBYE = 5.0  # seconds for the client to answer the close


Send = Callable[[object], Awaitable[None]]  # a message


class Dialect(Protocol):
    """One protocol's side of one session. Messages are whatever msgspec encodes."""

    session: LiveSession
    last: tuple[type[msgspec.Struct], ...]  # events after one of which the connection is closed
    ends_on_error: bool  # after a message of the client that is wrong

    def greet(self) -> Iterable[object]:
        """What is sent after the handshake."""
        ...

    async def hear(self, message: str | bytes, send: Send) -> None:
        """A message of the client's. Raises ServiceError where it is wrong."""
        ...

    async def begun(self) -> None:
        """Wait until the session is the one whose events are to be told."""
        ...

    def tell(self, event: Event, following: Event | None) -> Iterable[object]:
        """An event in this protocol's words. following: the next, where it is known already."""
        ...

    def refuse(self, error: ServiceError) -> object: ...


def open_session(request: web.Request, options: LiveOptions) -> LiveSession:
    """Raises ServiceError, so that it is answered before the handshake."""
    require_upgrade(request)
    if request.app[DRAIN].stopping:
        raise NotReady("The server is shutting down; try again.", retry_after=5)
    who = client(request)
    return request.app[LIVE].open(options, who.owner, who.key.audio_hours_per_day if who.key else None)


async def converse(request: web.Request, dialect: Dialect, largest: int) -> web.WebSocketResponse:
    """largest: bytes of a message. However it ends, the session is closed."""
    socket = web.WebSocketResponse(
        compress=False, max_msg_size=largest, timeout=_GOODBYE, protocols=subprotocols(request)
    )
    try:
        await socket.prepare(request)
        with suppress(ConnectionError):
            await _Line(socket, dialect, lambda: is_still_known(request)).converse()
    finally:
        await dialect.session.close()
    return socket


class SlowReader(Exception):
    """The client does not take what it is sent."""


class _Line:
    def __init__(self, socket: web.WebSocketResponse, dialect: Dialect, permitted: Callable[[], bool]) -> None:
        self._socket, self._dialect, self._permitted = socket, dialect, permitted
        self._events: asyncio.Queue[Event] = asyncio.Queue(_AHEAD)

    async def converse(self) -> None:
        code, why = WSCloseCode.OK, ""
        try:
            for message in self._dialect.greet():
                await self._send(message)
            code = await self._until_first_ends()
        except SlowReader as error:
            code, why = WSCloseCode.TRY_AGAIN_LATER, str(error)
        except ConnectionError:
            raise
        except Exception:
            log.exception("a live session failed")
            code = WSCloseCode.INTERNAL_ERROR
            with suppress(SlowReader):
                await self._send(self._dialect.refuse(ServiceError("The server failed; its log says why.")))
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await self._socket.close(code=code, message=why.encode())

    async def _until_first_ends(self) -> WSCloseCode:
        parts = (self._hear(), self._tell(), self._collect(), self._ping(), self._until_forbidden())
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(ended)).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self) -> WSCloseCode:
        """Until the client closes, or is wrong where that ends the session."""
        async for message in self._socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            try:
                await self._dialect.hear(message.data, self._send)
            except ServiceError as error:
                await self._send(self._dialect.refuse(error))
                if isinstance(error, TooLarge | RateLimited):  # there may be no more of it: what there is becomes final
                    await self._dialect.session.finish()
                elif self._dialect.ends_on_error or error.status == 415 or error.status >= 429:
                    return _close_code(error)
        return WSCloseCode.OK

    async def _collect(self) -> WSCloseCode:
        await self._dialect.begun()
        async for event in self._dialect.session.events():
            await self._events.put(event)
        await self._events.join()
        return WSCloseCode.GOING_AWAY  # without a last event: the server stops

    async def _tell(self) -> WSCloseCode:
        """Until the session's last event."""
        event = await self._events.get()
        while True:
            following = None if self._events.empty() else self._events.get_nowait()
            for message in self._dialect.tell(event, following):
                await self._send(message)
            if isinstance(event, Broken):
                return _close_code(event.error)
            if isinstance(event, (Ended, *self._dialect.last)):
                return WSCloseCode.OK
            self._events.task_done()
            event = await self._events.get() if following is None else following

    async def _ping(self) -> WSCloseCode:
        while True:
            await asyncio.sleep(_PING)
            await self._socket.ping()

    async def _until_forbidden(self) -> WSCloseCode:
        """Until the key is revoked with which the session was opened."""
        while True:
            await asyncio.sleep(_KEY_CHECK)
            if not self._permitted():
                await self._send(self._dialect.refuse(Unauthorized("This access key was revoked.")))
                return WSCloseCode.POLICY_VIOLATION

    async def _send(self, message: object) -> None:
        """Raises SlowReader."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._socket.send_frame(msgspec.json.encode(message), WSMsgType.TEXT)
        except TimeoutError as error:
            raise SlowReader(f"Nothing of what was sent was taken for {_PATIENCE:.0f} s.") from error


def _close_code(error: ServiceError) -> WSCloseCode:
    if error.status == 415:
        return WSCloseCode.UNSUPPORTED_DATA
    if error.status in (429, 503, 507) or error.code == "slow_reader":
        return WSCloseCode.TRY_AGAIN_LATER
    return WSCloseCode.INTERNAL_ERROR if error.status >= 500 else WSCloseCode.POLICY_VIOLATION


def decoded(message: str) -> dict[str, object]:
    """A text message of the client, as JSON. Raises InvalidRequest."""
    try:
        found = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidRequest("This message is no JSON.") from error
    if not isinstance(found, dict):
        raise InvalidRequest("A message is a JSON object.")
    return found
