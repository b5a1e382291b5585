"""When one server of several asks for the tasks that were queued: not all of them at the same moment, and not for those
that another has claimed by then."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from diarserve.tasks.store.protocol import Changed

_PAUSE = 0.05  # seconds at most for a server that runs nothing; a claim is told to all others within some 5 ms
_LONGEST = 0.25  # seconds


class Wakeups:
    """Hears of changes in the store, and calls `wake` after a random pause if there is still something to claim. The
    more tasks a server runs the longer it waits, so that the one with the least to do asks first."""

    def __init__(self, wake: Callable[[], None], running: Callable[[], int]) -> None:
        """running: how many tasks this server runs."""
        self._wake = wake
        self._running = running
        self._unclaimed: set[str | None] = set()  # tasks, since this server was last woken; None: any
        self._timer: asyncio.TimerHandle | None = None

    def hear(self, change: Changed) -> None:
        if change.queued:
            self._unclaimed.add(change.id)
            if self._timer is None:
                pause = random.uniform(0.0, min(_PAUSE * (1 + self._running()), _LONGEST))
                self._timer = asyncio.get_running_loop().call_later(pause, self._ask)
        elif change.claimed or change.ended:
            self._unclaimed.discard(change.id)

    def _ask(self) -> None:
        self._timer = None
        if self._unclaimed:
            self._unclaimed.clear()
            self._wake()
