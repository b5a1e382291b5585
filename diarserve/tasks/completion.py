"""Work that is not left half done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from diarserve.tasks.store.protocol import StoreError

log = logging.getLogger(__name__)

PAUSE = 5.0  # seconds before what failed for want of a worker or of disk space is tried again

T = TypeVar("T")


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Do the work to its end, also where the caller is cancelled because its client went away."""
    doing = asyncio.create_task(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait((doing,))
        raise


async def retry_store(change: Callable[[], Awaitable[bool]]) -> bool:
    """Make a change that must be made: where the store's disk is full, as soon as there is room again."""
    while True:
        try:
            return await change()
        except StoreError:
            log.exception("a task's row cannot be written; trying again in %.0f s", PAUSE)
            await asyncio.sleep(PAUSE)
