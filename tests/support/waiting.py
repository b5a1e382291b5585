"""Wait for what another task, thread or process does, and never for ever."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

LIMIT = 60.0  # seconds: far more than a busy machine needs, and less than pytest's own limit for a test


async def until(condition: Callable[[], object | Awaitable[object]], limit: float = LIMIT, pause: float = 0.01) -> None:
    """Return once the condition holds. Fails, and names the condition, when it does not within the limit."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if await value if inspect.isawaitable(value) else value:
            return
        if time.monotonic() > deadline:
            raise AssertionError(_still(condition, limit))
        await asyncio.sleep(pause)


def wait_until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """`until` for tests without an event loop."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(_still(condition, limit))
        time.sleep(0.01)


def _still(condition: Callable[[], object], limit: float) -> str:
    try:
        text = inspect.getsource(condition).strip()
    except (OSError, TypeError):
        text = repr(condition)
    return f"not so within {limit:g} s: {text}"
