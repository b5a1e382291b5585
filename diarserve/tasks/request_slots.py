"""How many recordings the server holds for clients that wait, and how many uploads are under way, so that a flood is
answered 429 and not taken in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from diarserve.core.errors import Busy, TooLarge


class RequestSlots:
    """limit: recordings, each of a batch counted, or uploads. wait_estimate: seconds until it is worth to ask again.
    what: its name in the refusal."""

    def __init__(self, limit: int, wait_estimate: Callable[[], float], what: str = "requests are waiting") -> None:
        self.taken = 0
        self._limit = limit
        self._wait_estimate = wait_estimate
        self._what = what

    @contextmanager
    def request(self) -> Iterator[RequestSlot]:
        """For as long as the block lasts; it takes nothing until it grows. Raises Busy when all are taken already, so
        that the recording need not be sent."""
        self.require_room(1)
        slot = RequestSlot(self)
        try:
            yield slot
        finally:
            self.taken -= slot.size

    def take(self, slots: int) -> None:
        self.require_room(slots)
        self.taken += slots

    def require_room(self, slots: int) -> None:
        """Raises Busy."""
        if self.taken + slots > self._limit:
            raise Busy(f"Too many {self._what}; try again later.", retry_after=self._wait_estimate())

    def require_possible(self, size: int) -> None:
        """Raises TooLarge for what will never fit."""
        if size > self._limit:
            message = f"{size} recordings are more than may wait here ({self._limit}); send fewer, or to batch/async."
            raise TooLarge(message, param="files")


class RequestSlot:
    """What one request holds."""

    def __init__(self, slots: RequestSlots) -> None:
        self.size = 0
        self._slots = slots

    def grow(self, size: int) -> None:
        """Hold `size` in all: the request has brought so many recordings, whose client waits. Raises Busy, and
        TooLarge where that is more than there are."""
        self._slots.require_possible(size)
        if size > self.size:
            self._slots.take(size - self.size)
            self.size = size
