"""What a scheduler keeps of a job under way, and of a step that runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workers.engine import JobSteps, WorkItem

PENDING = object()


@dataclass(slots=True, eq=False)
class RunningJob:
    """A job under way. `waiting` and `outputs` belong to its present phase."""

    id: str
    task: str
    virtual_deadline: float
    steps: JobSteps
    waiting: deque[tuple[int, WorkItem]] = field(
        default_factory=deque
    )  # items not in a step yet, each with its position in the phase
    phase: list[WorkItem] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)  # PENDING until an item is done
    shown: int = 0  # items from the phase's start whose outputs were shown, if they are partial
    done: int = 0  # items of this phase
    items: int = 0  # of all phases
    phases: int = 0
    started: float | None = None
    busy: float = 0.0
    alone: bool = False  # after a shared step failed: it shares no more, so that only the job at fault fails
    on_fallback: set[int] = field(default_factory=set)  # positions of items that did not fit into the device's memory
    degraded: bool = False

    @property
    def next_item(self) -> WorkItem:
        """The first that waits; there must be one."""
        return self.waiting[0][1]

    @property
    def next_on_fallback(self) -> bool:
        return bool(self.waiting) and self.waiting[0][0] in self.on_fallback

    @property
    def shares_steps(self) -> bool:
        """Whether its next item may be in one step with other jobs' items."""
        return not (self.alone or self.next_on_fallback)

    def begin(self, phase: list[WorkItem]) -> None:
        self.phase, self.outputs, self.waiting = phase, [PENDING] * len(phase), deque(enumerate(phase))
        self.shown = self.done = 0
        self.on_fallback.clear()
        self.items += len(phase)
        self.phases += 1

    def newly_final(self) -> Iterator[tuple[Any, ...]]:
        """What is in the partial outputs that are final since the last call: those before which no item is pending."""
        while self.shown < len(self.phase) and self.outputs[self.shown] is not PENDING:
            if self.phase[self.shown].partial:
                yield tuple(self.outputs[self.shown])
            self.shown += 1


class Pick(NamedTuple):
    """A work item in a step."""

    job: RunningJob
    position: int  # in the job's phase
    item: WorkItem


@dataclass(slots=True, eq=False)
class Step:
    """One run of the engine on a batch of work items with the same key."""

    picks: Sequence[Pick]
    jobs: Sequence[RunningJob]  # of the picks, each once
    started: float  # time.monotonic()
    on_fallback: bool  # on the engine's fallback

    @property
    def key(self) -> Hashable:
        return self.picks[0].item.key
