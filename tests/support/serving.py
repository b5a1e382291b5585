"""The application in a thread of the test's own process, for clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from diarserve.core.settings import Settings
from diarserve.http import app
from diarserve.http.context import SERVICE
from diarserve.http.server import Runner


@contextmanager
def serving(settings: Settings, prepare: Callable[[web.Application], object] = id) -> Iterator[str]:
    """The application, once prepared, on a free loopback port, in a thread of its own; its address."""
    made = app.make(settings)
    prepare(made)
    runner = Runner(made, handler_cancellation=True)

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await runner.app[SERVICE].wait_ready()
        return "http://{}:{}".format(*runner.addresses[0])

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
