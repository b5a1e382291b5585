"""Which work items the next step holds: some of the most urgent job, and of others that share the step with it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

from workers.engine import Engine
from workers.messages import BatchFill
from workers.runtime.running import Pick, RunningJob, Step

# Seconds of urgency that each phase costs a job, and after how many phases that ends.
_PHASE_SECONDS, _MOST_PHASES = 5.0, 4


class _Limits(NamedTuple):
    """What a step may hold, in sizes of work items. Its first item goes in whatever its size."""

    of_a_job: float
    in_all: float  # with every item counted as large as the largest, to which it is padded
    even_share: float  # of what waits, for each thread, so that none idles at the end of a phase


class Batches:
    def __init__(self, engine: Engine, fill: BatchFill | None) -> None:
        self._engine = engine
        self._fill = fill
        self._caps: dict[Hashable, float] = {}  # how large a step fits into the device's memory, by the items' key

    def pick(self, jobs: Iterable[RunningJob], running: Sequence[Step]) -> list[Pick]:
        """The work items of a step that may begin now, taken from those that wait; none if no step may begin yet."""
        ready = self._ready(jobs, [step.key for step in running])
        if not ready or not self._has_thread_for(ready[0], running):
            return []
        first, *others = ready
        sharing = [first, *(job for job in others if self._can_share(job, first))]
        return _take(sharing, self._limits(sharing))

    def capacity(self, key: Hashable) -> float:
        """How large a step with this key may be."""
        most = max(self._engine.batch(key), self._fill.items if self._fill else 0)
        return min(most, self._caps.get(key, math.inf))

    def halve(self, picks: Sequence[Pick]) -> None:
        """From now on steps with this key are half as large: these items did not fit into the device's memory."""
        self._caps[picks[0].item.key] = len(picks) * max(pick.item.size for pick in picks) / 2

    def forget(self) -> None:
        """Steps may be as large as ever: other processes may have left the device meanwhile."""
        self._caps.clear()

    def _ready(self, jobs: Iterable[RunningJob], running: Sequence[Hashable]) -> list[RunningJob]:
        """Jobs whose next item may run now, the most urgent first. None of those that are less urgent than one that has
        to wait: their steps would overlap without end, and it would wait for ever."""
        ready = sorted((job for job in jobs if job.waiting), key=self._urgency)
        if running:
            ready = list(takewhile(lambda job: self._engine.can_run_beside(job.next_item.key, running), ready))
        return ready

    def _urgency(self, job: RunningJob) -> float:
        """The smaller, the more urgent. Where jobs share steps, each phase makes a job less urgent, so that one which
        is ahead waits for those that were submitted soon after it, and shares the steps of its next phase with them."""
        late = _PHASE_SECONDS * min(job.phases, _MOST_PHASES) if self._fill else 0.0
        return job.virtual_deadline + late

    def _has_thread_for(self, job: RunningJob, running: Sequence[Step]) -> bool:
        """There is a thread for each of `parallel` steps, and one more for a job that is more urgent than all that
        run."""
        if len(running) < self._engine.parallel:
            return True
        others = [other for step in running for other in step.jobs]
        return len(running) == self._engine.parallel and self._urgency(job) < min(map(self._urgency, others))

    def _can_share(self, job: RunningJob, first: RunningJob) -> bool:
        """Whether the job's items may fill up a step of the most urgent one's."""
        return (
            self._fill is not None
            and job.virtual_deadline - first.virtual_deadline <= self._fill.within
            and job.shares_steps
            and first.shares_steps
            and job.next_item.key == first.next_item.key
            and self._engine.can_batch_with(job.next_item, first.next_item)
        )

    def _limits(self, jobs: Sequence[RunningJob]) -> _Limits:
        key = jobs[0].next_item.key
        fits = self._caps.get(key, math.inf)
        of_a_job = 0.0 if jobs[0].next_on_fallback else min(self._engine.batch(key), fits)
        in_all = min(max(of_a_job, self._fill.items), fits) if self._fill and len(jobs) > 1 else of_a_job
        waiting = sum(item.size for job in jobs for _, item in job.waiting)
        return _Limits(of_a_job, in_all, waiting / self._engine.parallel)


def _take(jobs: Sequence[RunningJob], limits: _Limits) -> list[Pick]:
    """Items with the key of the first job's next one, job by job, as long as they are within the limits."""
    key = jobs[0].next_item.key
    picks: list[Pick] = []
    total = largest = 0.0
    for job in jobs:
        own = 0.0
        while job.waiting and (item := job.next_item).key == key and (total < limits.even_share or not picks):
            padded = (len(picks) + 1) * max(largest, item.size)
            if picks and (padded > limits.in_all or own + item.size > limits.of_a_job):
                break
            own, total, largest = own + item.size, total + item.size, max(largest, item.size)
            picks.append(Pick(job, *job.waiting.popleft()))
    return picks
