"""The tasks that this server works on or shows, and the totals of those that ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

from diarserve.core.errors import Busy, ServiceError, is_temporary
from diarserve.observe.metrics import Metrics
from diarserve.tasks.task import STAGE_WEIGHTS, Task
from diarserve.transcript.document import Document

_TIMES = {
    "decode": "decode_time",
    "separate": "separation_time",
    "transcribe": "transcription_time",
    "align": "forced_alignment_time",
    "diarize": "diarization_time",
}


class Tasks:
    def __init__(self, limit: int, metrics: Metrics) -> None:
        self._held: WeakValueDictionary[str, Task] = WeakValueDictionary()  # as long as anybody runs or watches them
        self._limit = limit
        self._metrics = metrics
        self._places = 0
        self._active: dict[str, Task] = {}
        self._completed = 0
        self._failed = 0
        self._seconds = 0.0  # of processing, all completed tasks together
        self._stage_seconds = dict.fromkeys(STAGE_WEIGHTS, 0.0)
        self._stages = {stage: metrics.stage.labels(stage) for stage in STAGE_WEIGHTS}

    def __len__(self) -> int:
        return len(self._active)

    def find(self, id: str) -> Task | None:
        """The task, where anybody runs or watches it."""
        return self._held.get(id)

    def remember(self, task: Task) -> None:
        """Let `find` find the task, for as long as anybody holds it."""
        self._held[task.id] = task

    def all(self) -> list[Task]:
        return list(self._held.values())

    @contextmanager
    def request_slot(self) -> Iterator[None]:
        """A place for one request whose client waits. Raises Busy when every place is taken."""
        if self._places >= self._limit:
            raise Busy("Too many requests are waiting; try again later.", retry_after=self.wait_estimate())
        self._places += 1
        try:
            yield
        finally:
            self._places -= 1

    @contextmanager
    def track(self, task: Task) -> Iterator[None]:
        """Show the task as under way, and count how it ends."""
        self._active[task.id] = self._held[task.id] = task
        task.become("processing")
        outcome = "cancelled"
        try:
            yield
            outcome = "completed"
        except Exception as error:
            if is_temporary(error):
                outcome = "refused"
            else:
                outcome = "rejected" if isinstance(error, ServiceError) and error.status < 500 else "failed"
            raise
        finally:
            del self._active[task.id]
            self._failed += outcome in ("failed", "rejected")
            self._metrics.tasks.labels(outcome).inc()

    def record(self, document: Document) -> None:
        """Count a completed task's timings."""
        timings = document.performance
        self._completed += 1
        self._seconds += timings.processing_time
        for stage, key in _TIMES.items():
            self._stage_seconds[stage] += getattr(timings, key)
            self._stages[stage].observe(getattr(timings, key))
        self._metrics.total.observe(timings.processing_time)
        self._metrics.audio.inc(document.duration)
        self._metrics.real_time_factor.observe(timings.real_time_factor)

    def active(self) -> list[dict[str, Any]]:
        return [
            {
                "task_id": task.id,
                "status": task.status,
                "progress": task.progress,
                "stage": task.stage,
                "stages": task.percents(),
                "created_at": task.created_at,
            }
            for task in self._active.values()
        ]

    def stats(self) -> dict[str, Any]:
        """Since this server started."""
        count = max(self._completed, 1)
        return {
            "total_tasks": self._completed + self._failed + len(self._active),
            "completed_tasks": self._completed,
            "failed_tasks": self._failed,
            "average_processing_time": self._seconds / count,
            "average_stage_times": {stage: total / count for stage, total in self._stage_seconds.items()},
            "active_tasks": self.active(),
        }

    def wait_estimate(self) -> float:
        """Seconds until a place is likely free: what an average task takes."""
        return max(1.0, self._seconds / max(self._completed, 1))
