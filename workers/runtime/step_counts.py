"""How many batches a worker has run, of what kind, and how full they were: told to the server now and then."""

from __future__ import annotations

from collections.abc import Hashable

from workers.messages import StepCount
from workers.runtime.running import Step, kind_of


class StepCounts:
    def __init__(self) -> None:
        self._counts: dict[Hashable, StepCount] = {}

    def add(self, step: Step, capacity: float, seconds: float) -> None:
        """capacity: the size that the step might have had. A first item goes in whatever its size."""
        kind, items = kind_of(step.key), len(step.picks)
        size = items * max(pick.item.size for pick in step.picks)
        last = self._counts.get(kind, StepCount(kind, 0, 0, 0.0, 0.0, 0.0))
        self._counts[kind] = StepCount(
            kind,
            last.steps + 1,
            last.items + items,
            last.size + size,
            last.capacity + max(capacity, size),
            last.seconds + seconds,
        )

    def take(self) -> tuple[StepCount, ...]:
        """What was counted since the last call."""
        counts, self._counts = tuple(self._counts.values()), {}
        return counts
