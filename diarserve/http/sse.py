"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

async with sse.stream(request) as events:
    await events.send({"progress": 50.0}, "progress")
    return events.response
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec
from aiohttp import web

from diarserve.http.guard import is_still_known

HEARTBEAT = 15.0  # seconds between comments: proxies close streams that are silent for 30 to 60 s

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx that asks by HTTP/1.0 would keep events until it has 4 KB of them
}


class EventStream:
    """An answer that consists of events. Two writes never overlap: a heartbeat stands between events, not in one."""

    def __init__(self, response: web.StreamResponse, permitted: Callable[[], bool] = lambda: True) -> None:
        """permitted: asked before every write. Where it says no, the client is taken for gone."""
        self.response = response
        self._permitted = permitted
        self._writing = asyncio.Lock()

    async def send(self, data: object, event: str | None = None) -> None:
        """Send one event, its data (builtins or a Struct) as JSON; waits where the client reads slowly. Raises
        ConnectionError when the client is gone."""
        head = f"event: {event}\n".encode() if event else b""
        await self._write(head + b"data: " + msgspec.json.encode(data) + b"\n\n")
        await asyncio.sleep(0)  # nothing waits where the client keeps up: thousands of events would block the loop

    async def beat(self, every: float) -> None:
        """Send a comment every so many seconds, until cancelled or the client is gone."""
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(every)
                if not self._writing.locked():  # an event that is being written shows life by itself
                    await self._write(b":\n\n")

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            if not self._permitted():
                raise ConnectionAbortedError("the access key was revoked")
            await self.response.write(data)


@asynccontextmanager
async def stream(request: web.Request) -> AsyncIterator[EventStream]:
    """Begin the answer, and send comments while nothing happens, so that nothing on the way takes a quiet stream for a
    dead one."""
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    events = EventStream(response, lambda: is_still_known(request))
    heart = asyncio.create_task(_beat(events, request))
    try:
        yield events
    finally:
        heart.cancel()
        await asyncio.wait((heart,))


async def _beat(events: EventStream, request: web.Request) -> None:
    await events.beat(HEARTBEAT)
    if request.transport:  # nothing more may be sent: this cancels the handler, which may wait for hours
        request.transport.close()
