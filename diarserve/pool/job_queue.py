"""The jobs of a lane that wait for a worker, the one with the smallest virtual deadline first."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from typing import Any

from diarserve.pool.job import Job, waiting


class JobQueue:
    def __init__(self) -> None:
        self._jobs: list[Job] = []  # a heap

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        """In no order."""
        return iter(self._jobs)

    @property
    def first(self) -> Job:
        return self._jobs[0]

    def push(self, job: Job) -> None:
        heapq.heappush(self._jobs, job)

    def pop(self) -> Job:
        return heapq.heappop(self._jobs)

    def remove(self, job: Job) -> None:
        """If it is there."""
        if job in self._jobs:
            self._jobs.remove(job)
            heapq.heapify(self._jobs)

    def clear(self) -> list[Job]:
        """All that waited."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def state(self) -> dict[str, Any]:
        """What /stats shows of it."""
        return {
            "queued": len(self._jobs),
            "oldest_queued": max((time.monotonic() - job.queued for job in self._jobs), default=0.0),
            "waiting": waiting(self._jobs),
        }
