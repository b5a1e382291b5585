"""The tasks that this server works on or shows, and how those that ended did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

from diarserve.core.errors import ServiceError, is_temporary
from diarserve.core.types import Outcome
from diarserve.observe.metrics import Metrics, exemplar
from diarserve.observe.readings import mean
from diarserve.tasks.request_slots import RequestSlot, RequestSlots
from diarserve.tasks.task import STAGE_WEIGHTS, Task
from diarserve.transcript.document import Document, Performance


class Tasks:
    """max_pending: recordings whose clients wait; max_uploads: under way; see RequestSlots."""

    def __init__(self, max_pending: int, max_uploads: int, metrics: Metrics) -> None:
        self.slots = RequestSlots(max_pending, self.wait_estimate)
        self.uploads = RequestSlots(max_uploads, self.wait_estimate, "uploads are under way")
        self._metrics = metrics
        self._held: WeakValueDictionary[str, Task] = WeakValueDictionary()  # as long as anybody runs or watches them
        self._active: dict[str, Task] = {}  # in the pipeline
        self._ended: Counter[tuple[Outcome, str]] = Counter()  # with the error's code, or ""

    def __len__(self) -> int:
        """Tasks in the pipeline."""
        return len(self._active)

    def find(self, id: str) -> Task | None:
        """The task, where anybody runs or watches it."""
        return self._held.get(id)

    def remember(self, task: Task) -> None:
        """Let `find` find the task, for as long as anybody holds it."""
        self._held[task.id] = task

    def watched(self) -> list[Task]:
        """Those that are not in the pipeline here."""
        return [task for id, task in self._held.items() if id not in self._active]

    def all(self) -> list[Task]:
        return list(self._held.values())

    @contextmanager
    def request_slot(self) -> Iterator[RequestSlot]:
        """Room for recordings whose client waits, taken when they have come. Raises Busy when there is none."""
        with self.slots.request() as slot:
            yield slot

    @contextmanager
    def track(self, task: Task) -> Iterator[None]:
        """Show the task as being processed, and count how it ends."""
        self._active[task.id] = self._held[task.id] = task
        task.become("processing")
        outcome: Outcome = "cancelled"
        code = ""
        try:
            yield
            outcome = "completed"
        except Exception as error:
            outcome = "refused" if is_temporary(error) else "failed"
            code = error.code if isinstance(error, ServiceError) else "internal"
            raise
        finally:
            del self._active[task.id]
            self._ended[outcome, code] += 1

    def record(self, task: Task, document: Document) -> None:
        """Count a completed task's timings, those of the stages that it ran."""
        timings, example = document.performance, exemplar(task.id)
        for stage, seconds in _stage_times(timings).items():
            if task.stages.get(stage) == 1:
                self._metrics.stage.labels(stage).observe(seconds, example)
        self._metrics.total.observe(timings.processing_time, example)
        self._metrics.audio.inc(document.duration)
        self._metrics.real_time_factor.observe(timings.real_time_factor, example)

    def count_retry(self) -> None:
        """A durable task begins again, as an earlier server died at it."""
        self._metrics.task_retries.inc()

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

    def outcomes(self) -> Mapping[tuple[Outcome, str], int]:
        """How many tasks ended so, by outcome and error code. Safe in any thread."""
        return dict(self._ended)

    def ended(self, outcome: Outcome) -> int:
        return sum(count for (other, _), count in self.outcomes().items() if other == outcome)

    def stats(self) -> dict[str, Any]:
        """Since this server started. Counts what /metrics counts (`diarserve_tasks_total`)."""
        completed, failed, cancelled = self.ended("completed"), self.ended("failed"), self.ended("cancelled")
        return {
            "total_tasks": completed + failed + cancelled + len(self._active),
            "completed_tasks": completed,
            "failed_tasks": failed,
            "cancelled_tasks": cancelled,
            "average_processing_time": mean(self._metrics.total),
            "average_stage_times": {stage: mean(self._metrics.stage, stage=stage) for stage in STAGE_WEIGHTS},
            "active_tasks": self.active(),
        }

    def wait_estimate(self) -> float:
        """Seconds until there is likely room: what an average task takes."""
        return max(1.0, mean(self._metrics.total))


def _stage_times(timings: Performance) -> dict[str, float]:
    return {
        "decode": timings.decode_time,
        "separate": timings.separation_time,
        "transcribe": timings.transcription_time,
        "align": timings.forced_alignment_time,
        "diarize": timings.diarization_time,
    }
