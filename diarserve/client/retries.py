"""When a call is tried again, and after how long. The pauses of one call are at most `patience` seconds together."""

from __future__ import annotations

import asyncio
import random

from diarserve.client.errors import NO_CODE, ClientError, ServerError, Unreachable

PATIENCE = 60.0  # seconds
_FIRST, _LONGEST = 0.25, 10.0  # seconds: they double from the one to the other
sleep = asyncio.sleep
_PASSING = (429, 502, 503, 504, 507)


def may_pass(error: Exception) -> bool:
    """Whether the same call may be answered later: the server says after how long, or a proxy does not reach it."""
    if isinstance(error, ServerError):
        return error.status in _PASSING and (error.retry_after is not None or error.code == NO_CODE)
    return isinstance(error, Unreachable)


class Pauses:
    """The pauses between the tries of one call."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = self._left = patience
        self._next = _FIRST

    def reset(self) -> None:
        """The server answered: what fails from now on is another failure."""
        self._left, self._next = self._patience, _FIRST

    async def after(self, error: ClientError) -> None:
        """Wait before the next try. Raises the error where it will not pass, or not in time."""
        if not may_pass(error):
            raise error
        told = error.retry_after if isinstance(error, ServerError) else None
        # At random, so that clients that failed together do not come back together.
        seconds = self._next * random.uniform(0.5, 1) if told is None else told * random.uniform(1, 1.25)
        if seconds > self._left:
            raise error
        self._left -= seconds
        self._next = min(2 * self._next, _LONGEST)
        await sleep(seconds)
