"""How much one key may ask: requests in a minute, and at a time. Counted in memory, so a restart begins anew."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from diarserve.access.keys import Key
from diarserve.core.errors import RateLimited


class KeyLimits:
    def __init__(self) -> None:
        self._running: Counter[str] = Counter()  # requests under way, by key

    @cached_property
    def _window(self) -> MovingWindowRateLimiter:
        return MovingWindowRateLimiter(MemoryStorage())  # which has a thread: only where a key has such a limit

    @contextmanager
    def request(self, key: Key) -> Iterator[None]:
        """For as long as a request lasts. Raises RateLimited."""
        if key.concurrent and self._running[key.id] >= key.concurrent:
            message = f"This key may have {key.concurrent} requests under way at a time; wait until one has ended."
            raise RateLimited(message, retry_after=1)
        if key.requests_per_minute:
            self._count(key, RateLimitItemPerMinute(key.requests_per_minute))
        self._running[key.id] += 1
        try:
            yield
        finally:
            self._running[key.id] -= 1
            if not self._running[key.id]:
                del self._running[key.id]

    def _count(self, key: Key, limit: RateLimitItemPerMinute) -> None:
        if not self._window.hit(limit, key.id):
            again = self._window.get_window_stats(limit, key.id).reset_time - time.time()
            message = f"This key may make {key.requests_per_minute} requests in a minute."
            raise RateLimited(message, retry_after=max(again, 1))
