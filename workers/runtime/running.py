"""What a scheduler keeps of a job under way, and of a step that runs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workers.engine import Await, Emit, Engine, JobSteps, LiveSteps, WorkItem
from workers.messages import FromWorker, LiveRequest, StepTimes, Submit
from workers.messages.live import Awaiting, Heard
from workers.messages.values import MAX_STEP_TIMES
from workers.runtime.feed import Feed

PENDING = object()
_SAMPLED = tuple("13579bdf")  # the lowest bit of the flags with which a traceparent ends


@dataclass(slots=True, eq=False)
class RunningJob:
    """A job under way. `waiting` and `outputs` belong to its present phase."""

    id: str
    task: str
    virtual_deadline: float
    steps: JobSteps | LiveSteps
    feed: Feed | None = None  # of a live job
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
    traceparent: str = ""
    step_times: list[StepTimes] | None = None  # kept where its trace is sampled
    step_count: int = 0
    patience: float = 0.0  # seconds from when a live job's audio comes to its virtual deadline

    @classmethod
    def of(cls, submit: Submit, engine: Engine) -> RunningJob:
        id, task, request, virtual_deadline = submit.job, submit.task, submit.request, submit.virtual_deadline
        if isinstance(request, LiveRequest):
            job = cls(id, task, virtual_deadline, engine.live(request), Feed(request.audio.samples))
            job.patience = virtual_deadline - time.monotonic()
        else:
            job = cls(id, task, virtual_deadline, engine.job(request))
        job.traceparent = submit.traceparent
        if submit.traceparent.endswith(_SAMPLED):
            job.step_times = []
        return job

    def note(self, step: Step, seconds: float, *, failed: bool = False) -> None:
        """A step with items of this job was run."""
        if self.step_times is None:
            return
        self.step_count += 1
        if len(self.step_times) < MAX_STEP_TIMES:
            kind = str(step.key[0] if isinstance(step.key, tuple) else step.key)
            after = step.started - (self.started or step.started)
            shared = len(step.picks), len(step.jobs)
            self.step_times.append(StepTimes(after, seconds, kind, *shared, step.on_fallback, failed))

    def took(self) -> float:
        """Seconds since its first step began; 0 before."""
        return time.monotonic() - self.started if self.started else 0.0

    def postpone(self) -> None:
        """Of a live job that goes on: of several, the one whose audio came first is the most urgent."""
        self.virtual_deadline = time.monotonic() + self.patience

    def resume(self, answer: object, send: Callable[[FromWorker], None]) -> list[WorkItem]:
        """Its next phase; empty where it waits for audio."""
        asked = self.steps.send(answer)  # type: ignore[arg-type]
        while not (isinstance(asked, list) and asked):
            answer = []
            if isinstance(asked, Emit):
                send(Heard(self.id, asked.output))
                answer = None
            elif isinstance(asked, Await):
                assert self.feed is not None
                self.feed.wanted = asked.samples
                if (answer := self.feed.take(self.id)) is None:
                    send(Awaiting(self.id, self.feed.samples))
                    return []
            asked = self.steps.send(answer)  # type: ignore[arg-type]
        return asked

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

    def share(self, spans: Mapping[str, tuple[float, float]]) -> float:
        """Of the job that is done, from 0 to 1, by Engine.spans."""
        key = self.phase[0].key
        begin, end = self.phase[0].span or spans.get(kind_of(key), (0.0, 1.0))
        return begin + (end - begin) * self.done / len(self.phase)


def kind_of(key: Hashable) -> str:
    """
    >>> kind_of(("asr", "base", 5))
    'asr'
    """
    return str(key[0] if isinstance(key, tuple) else key)


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


def put_back(picks: Sequence[Pick]) -> None:
    """To the items that wait, in their order."""
    for job, position, item in reversed(picks):
        job.waiting.appendleft((position, item))
