"""A job that waits in a lane or is held by a worker, and how urgent it is.

Urgency is one number, `virtual_deadline`: the moment a job would be done by if it were served at once, plus the offset
of its priority. The smallest runs first (earliest virtual deadline first). So a short clip overtakes a long
recording, high priority overtakes low, and nothing starves: a job's number stands still while newcomers' numbers grow
with the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from diarserve.core.errors import ServiceError
from diarserve.core.types import PRIORITIES, Priority
from diarserve.observe.tracing import Span
from diarserve.pool.live_job import LiveAudio
from workers.messages import Decode, Done, Failed, LiveRequest, Progress, Request, Separate, Submit

PRIORITY_OFFSET: Mapping[Priority, float] = {"high": 0.0, "normal": 60.0, "low": 600.0}  # seconds
LIVE_OFFSET = -86_400.0  # of live jobs, which go before all others: none of those waits for a day

OnProgress = Callable[[Progress], None]


class Waiting(TypedDict):
    jobs: int
    oldest: float  # seconds that the oldest of them has waited; 0 without any


def waiting(queue: Iterable[Job]) -> dict[str, Waiting]:
    """What waits, by the task's priority, or `live`."""
    now, found = time.monotonic(), {name: Waiting(jobs=0, oldest=0.0) for name in (*PRIORITIES, "live")}
    for job in queue:
        one = found["live" if job.live else job.priority]
        one["jobs"] += 1
        one["oldest"] = max(one["oldest"], now - job.queued)
    return found


def virtual_deadline(priority: Priority, duration: float, waited: float = 0.0) -> float:
    """On the monotonic clock, of a job that came in `waited` seconds ago with `duration` seconds of audio."""
    return time.monotonic() - waited + PRIORITY_OFFSET[priority] + duration


@dataclass(slots=True, eq=False)
class Job:
    id: str
    task: str  # its name in the log
    request: Request
    virtual_deadline: float  # seconds on the monotonic clock
    answer: asyncio.Future[Done[Any]]  # or a ServiceError or OSError
    queued: float  # when it came, on the monotonic clock
    on_progress: OnProgress | None = None
    waits_since: float = 0.0  # when it last began to wait: as `queued`, until a worker loses it
    begun: bool = False  # its worker has told of a step
    span: Span | None = None  # that it is part of, where traces are on
    given: float = 0.0  # when a worker last got it, on the monotonic clock
    failed: Failed | None = None  # what that worker said, where the job failed in it
    attempts: int = 0  # including the one under way
    live: LiveAudio | None = None  # of a job whose audio keeps arriving
    priority: Priority = "high"  # of its task
    alone: bool = False  # it was in a worker when that died, and may be the cause: try it by itself

    def __post_init__(self) -> None:
        self.waits_since = self.queued

    def count_attempt(self) -> None:
        """Before it starts, so that whatever it does to the worker is counted."""
        self.attempts += 1
        if self.attempts > 1 and self.on_progress:
            self.on_progress(Progress(self.id, 0.0))  # what it reported so far, it will report again

    def give(self) -> Submit:
        """What its worker is sent."""
        self.given, self.failed, request = time.monotonic(), None, self.request
        if self.live and isinstance(request, LiveRequest):
            request = self.live.submitted(request)
        traceparent = self.span.traceparent if self.span else ""
        return Submit(self.id, self.task, request, self.virtual_deadline, traceparent=traceparent)

    def wait_again(self) -> None:
        self.waits_since, self.begun = time.monotonic(), False

    def end(self, answer: Done[Any] | ServiceError | OSError) -> None:
        """Set the answer, unless there is one or the caller was cancelled."""
        if self.answer.done():
            return
        if isinstance(answer, Done):
            self.answer.set_result(answer)
        else:
            self.answer.set_exception(answer)

    @property
    def writes(self) -> bool:
        """Whether its worker writes a file of the job's: then no other may do it while the first may be alive."""
        return isinstance(self.request, Decode | Separate)

    @property
    def awaits_audio(self) -> bool:
        return self.live is not None and self.live.awaits

    def __lt__(self, other: Job) -> bool:
        return self.virtual_deadline < other.virtual_deadline
