"""How slow an upload may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from diarserve.core.errors import UploadTimeout
from diarserve.core.settings import Limits


@asynccontextmanager
async def expected(request: web.Request, limits: Limits) -> AsyncIterator[None]:
    """For the block that reads the body. Raises UploadTimeout when the whole takes longer than `limits.upload_timeout`,
    or when fewer than `limits.min_upload_rate` bytes a second came in `limits.upload_rate_window` seconds."""
    try:
        async with asyncio.timeout(limits.upload_timeout) as deadline:
            watching = asyncio.create_task(_end_when_slow(request, limits, deadline))
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError as error:
        if watching.done() and not watching.cancelled():
            raise UploadTimeout(
                f"The upload is slower than {limits.min_upload_rate} bytes a second over "
                f"{limits.upload_rate_window:g} s. Send it over a better connection, or in a smaller format."
            ) from error
        raise UploadTimeout(f"The upload took longer than {limits.upload_timeout:.0f} s.") from error


async def _end_when_slow(request: web.Request, limits: Limits, deadline: asyncio.Timeout) -> None:
    received = 0
    while True:
        await asyncio.sleep(limits.upload_rate_window)
        before, received = received, request.content.total_bytes
        slow = received - before < limits.min_upload_rate * limits.upload_rate_window
        if slow and _waits_for_client(request):
            deadline.reschedule(asyncio.get_running_loop().time())
            return


def _waits_for_client(request: web.Request) -> bool:
    """Not where all has come, or where the server does not keep up with what comes: its reading is paused then."""
    return not request.content.is_eof() and request.transport is not None and request.transport.is_reading()
