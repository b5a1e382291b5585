"""Which items the next step holds: those of the most urgent job, and of others beside them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from itertools import takewhile

from workers.engine import Engine
from workers.messages import BatchFill
from workers.runtime.running import Pick, RunningJob, Step

_PHASE, _PHASES = 5.0, 4  # seconds of urgency that a phase costs, and how many do


class Batches:
    def __init__(self, engine: Engine, fill: BatchFill | None) -> None:
        self._engine = engine
        self._fill = fill
        self._caps: dict[Hashable, float] = {}  # how large a step fits into the device's memory, by the items' key

    def pick(self, jobs: Iterable[RunningJob], running: Sequence[Step]) -> list[Pick]:
        """Work items to begin with now, taken from those that wait; none if there are none that may begin yet."""
        ready = self._ready(jobs, [step.picks[0][2].key for step in running])
        return self._take(ready) if ready and self._room(ready[0], running) else []

    def halve(self, picks: Sequence[Pick]) -> None:
        """So many did not fit into the device's memory."""
        self._caps[picks[0][2].key] = len(picks) * max(item.size for _, _, item in picks) / 2

    def forget(self) -> None:
        """Perhaps others left the device meanwhile."""
        self._caps.clear()

    def _ready(self, jobs: Iterable[RunningJob], running: Sequence[Hashable]) -> list[RunningJob]:
        """Jobs with a item that may run now, the most urgent first. Behind one that may not yet run, none may: or the
        steps of the less urgent would overlap for ever, and its turn never come."""
        ready = sorted((job for job in jobs if job.waiting), key=self._urgency)
        if running:
            ready = list(takewhile(lambda job: self._engine.can_run_beside(job.waiting[0][1].key, running), ready))
        return ready

    def _urgency(self, job: RunningJob) -> float:
        """Those that came together go through their phases together, and share the steps of each: one lets the others
        catch up."""
        return job.virtual_deadline + _PHASE * min(job.phases, _PHASES) if self._fill else job.virtual_deadline

    def _room(self, job: RunningJob, running: Sequence[Step]) -> bool:
        """A thread for each of `parallel` steps, and one more for a job that is more urgent than all that run."""
        if len(running) < self._engine.parallel:
            return True
        others = [other for step in running for other, _, _ in step.picks]
        return len(running) == self._engine.parallel and self._urgency(job) < min(map(self._urgency, others))

    def _take(self, ready: Sequence[RunningJob]) -> list[Pick]:
        first = ready[0]
        key = first.waiting[0][1].key
        most = self._caps.get(key, math.inf)
        batch = 0.0 if first.next_on_fallback else min(self._engine.batch(key), most)  # the first item goes in any case
        jobs, room = [first], batch
        if self._fill and not (first.alone or first.next_on_fallback):
            jobs += [job for job in ready[1:] if self._shares(job, first, self._fill)]
            if len(jobs) > 1:
                room = min(max(batch, self._fill.items), most)
        # An even share for every thread, so that none idles at the end of a wave.
        share = sum(item.size for job in jobs for _, item in job.waiting) / self._engine.parallel
        picks: list[Pick] = []
        used = largest = 0.0
        for job in jobs:
            own = 0.0
            while job.waiting and (item := job.waiting[0][1]).key == key and (used < share or not picks):
                padded = (len(picks) + 1) * max(largest, item.size)
                if picks and (padded > room or own + item.size > batch):
                    break
                own, used, largest = own + item.size, used + item.size, max(largest, item.size)
                picks.append((job, *job.waiting.popleft()))
        return picks

    def _shares(self, job: RunningJob, first: RunningJob, fill: BatchFill) -> bool:
        """Whether the job's items may fill up a step of the most urgent one's."""
        return (
            job.virtual_deadline - first.virtual_deadline <= fill.within
            and not (job.alone or job.next_on_fallback)
            and job.waiting[0][1].key == first.waiting[0][1].key
            and self._engine.can_batch_with(job.waiting[0][1], first.waiting[0][1])
        )
