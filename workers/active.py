"""What a scheduler keeps of a job under way, and of a step that runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.engine import Job, Unit

PENDING = object()


@dataclass(slots=True, eq=False)
class Active:
    """A job under way. `waiting` and `outputs` belong to its present wave."""

    id: str
    task: str
    due: float
    steps: Job
    waiting: deque[tuple[int, Unit]] = field(default_factory=deque)
    wave: list[Unit] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)  # PENDING until a unit is done
    shown: int = 0  # units from the wave's start whose outputs were shown, if they are partial
    done: int = 0  # units of this wave
    units: int = 0  # of all waves
    waves: int = 0
    started: float | None = None
    busy: float = 0.0
    alone: bool = False  # after a shared step failed: share no step, so that the culprit fails by itself
    lesser: set[int] = field(default_factory=set)  # units of this wave that did not fit into the device's memory
    degraded: bool = False

    @property
    def lesser_first(self) -> bool:
        return bool(self.waiting) and self.waiting[0][0] in self.lesser

    def show(self) -> Iterator[Any]:
        """Outputs that became final: those with nothing unfinished before them."""
        while self.shown < len(self.wave) and self.outputs[self.shown] is not PENDING:
            if self.wave[self.shown].partial:
                yield self.outputs[self.shown]
            self.shown += 1


Pick = tuple[Active, int, Unit]  # of a job's wave the unit at this index


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    picks: Sequence[Pick]
    started: float
    lesser: bool  # on the engine's fallback
