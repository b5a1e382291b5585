"""Events that a client has not read yet: bounded, however slowly it reads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from diarserve.live.events import Event, Interim, Lag

MOST = 1000  # events that wait; an hour of speech has about so many that are not interim


class Outbox:
    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self.ended = False

    @property
    def full(self) -> bool:
        return len(self._events) >= MOST

    def put(self, event: Event) -> None:
        """An Interim or a Lag takes the place of one that was not read."""
        if self.ended:
            return
        if isinstance(event, Interim | Lag) and self._events and type(self._events[-1]) is type(event):
            self._events.pop()
        self._events.append(event)
        self._changed.set()

    def end(self) -> None:
        self.ended = True
        self._changed.set()

    async def read(self) -> AsyncIterator[Event]:
        while True:
            while self._events:
                yield self._events.popleft()
            if self.ended:
                return
            self._changed.clear()
            await self._changed.wait()
