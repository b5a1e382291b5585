"""How the server stops taking requests: new work is refused, what is under way gets time to end.

A load balancer sees /readyz fail and sends new requests elsewhere. Until it has noticed, they are answered here: those
that bring no work as ever, the others 503 with Retry-After.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler

from diarserve.core.errors import NotReady
from diarserve.http.context import LIVE, SERVICE
from diarserve.http.openapi.describe import Operation

log = logging.getLogger(__name__)


class Drain:
    """The requests under way."""

    def __init__(self) -> None:
        self.stopping = False
        self._under_way = 0
        self._none_under_way = asyncio.Event()
        self._none_under_way.set()

    def begin(self) -> None:
        self._under_way += 1
        self._none_under_way.clear()

    def end(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._none_under_way.set()

    async def wait(self, seconds: float) -> None:
        """Until no request is under way, and no longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none_under_way.wait()
        if self._under_way:
            log.warning("%d requests are cut short: they did not end within %.0f s", self._under_way, seconds)


DRAIN = web.AppKey("drain", Drain)


async def stop(app: web.Application, seconds: float) -> None:
    """Take no more work, and give requests under way so many seconds; live sessions, which may last for hours, end at
    once. Durable tasks go back to the queue at once: who started them does not wait, and the next server goes on with
    them. Then the workers end, and clients that still wait for them are answered 503."""
    app[DRAIN].stopping = True
    stopping = asyncio.create_task(app[SERVICE].stop())
    await app[LIVE].close()
    await app[DRAIN].wait(seconds)
    await app[SERVICE].end_workers()
    await stopping


@web.middleware
async def refuse_when_stopping(request: web.Request, handler: Handler) -> web.StreamResponse:
    drain = request.app[DRAIN]
    if drain.stopping and request.method == "POST":
        raise NotReady("The server is shutting down; try again.", retry_after=5)
    if request.app[SERVICE].draining and _brings_work(request):
        raise NotReady("The server takes no new work: it is drained for maintenance; try again later.", retry_after=60)
    drain.begin()
    try:
        return await handler(request)
    finally:
        drain.end()


def _brings_work(request: web.Request) -> bool:
    operation = getattr(request.match_info.handler, "__operation__", None)
    return request.method == "POST" and isinstance(operation, Operation) and operation.needs == "submit"


async def close_connection(request: web.Request, response: web.StreamResponse) -> None:
    """A signal: whoever asks again is to come back by another connection, to another server."""
    if request.app[DRAIN].stopping:
        response.headers["Connection"] = "close"
        response.force_close()
