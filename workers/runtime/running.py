"""What a scheduler keeps of a job under way, and of a step that runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.engine import JobSteps, WorkItem

PENDING = object()


@dataclass(slots=True, eq=False)
class RunningJob:
    """A job under way. `waiting` and `outputs` belong to its present wave."""

    id: str
    task: str
    virtual_deadline: float
    steps: JobSteps
    waiting: deque[tuple[int, WorkItem]] = field(default_factory=deque)
    phase: list[WorkItem] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)  # PENDING until a item is done
    shown: int = 0  # items from the phase's start whose outputs were shown, if they are partial
    done: int = 0  # items of this phase
    items: int = 0  # of all phases
    phases: int = 0
    started: float | None = None
    busy: float = 0.0
    alone: bool = False  # after a shared step failed: share no step, so that the culprit fails by itself
    on_fallback: set[int] = field(default_factory=set)  # items of this phase that did not fit into the device's memory
    degraded: bool = False

    @property
    def next_on_fallback(self) -> bool:
        return bool(self.waiting) and self.waiting[0][0] in self.on_fallback

    def show(self) -> Iterator[Any]:
        """Outputs that became final: those with nothing unfinished before them."""
        while self.shown < len(self.phase) and self.outputs[self.shown] is not PENDING:
            if self.phase[self.shown].partial:
                yield self.outputs[self.shown]
            self.shown += 1


Pick = tuple[RunningJob, int, WorkItem]  # of a job's phase the item at this index


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    picks: Sequence[Pick]
    started: float
    on_fallback: bool  # on the engine's fallback
