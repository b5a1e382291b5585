"""Tasks that run beside requests for as long as the server does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

_PAUSE = 5.0  # seconds


async def restart_on_error(background: Callable[[], Awaitable[None]]) -> None:
    """Run a background task, again and again where it fails: no request waits for it that could answer the error."""
    while True:
        try:
            return await background()
        except Exception:
            log.exception("a background task failed; it starts again in %.0f s", _PAUSE)
            await asyncio.sleep(_PAUSE)
