"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from aiohttp import web


async def begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    return response


@asynccontextmanager
async def beating(response: web.StreamResponse, every: float = 15.0) -> AsyncIterator[None]:
    """Send comments meanwhile, so that nothing on the way takes a quiet stream for a dead one."""

    async def beat() -> None:
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(every)
                await response.write(b":\n\n")

    heart = asyncio.create_task(beat())
    try:
        yield
    finally:
        heart.cancel()


async def send(response: web.StreamResponse, data: Any, event: str | None = None) -> None:
    head = f"event: {event}\n".encode() if event else b""
    await response.write(head + b"data: " + orjson.dumps(data) + b"\n\n")
