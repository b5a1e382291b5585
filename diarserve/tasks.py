"""The tasks under way, their progress, and the totals of those that ended."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diarserve.errors import Busy, ServiceError
from diarserve.forms import Options
from diarserve.metrics import Metrics

# How much of a task each stage is, for a progress that moves evenly.
_WEIGHTS: Mapping[str, float] = {"decode": 0.05, "transcribe": 0.6, "diarize": 0.35}


@dataclass(slots=True, eq=False)
class Task:
    folder: Path  # everything the task leaves on disk, removed with it
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    filename: str = ""
    options: Options = field(default_factory=Options)
    created_at: float = field(default_factory=time.time)
    status: str = "receiving"
    stages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_WEIGHTS, 0.0))  # share done

    @property
    def source(self) -> Path:
        return self.folder / "upload"

    @property
    def progress(self) -> float:
        """Percent."""
        return round(100 * sum(_WEIGHTS[stage] * share for stage, share in self.stages.items()), 1)

    def advance(self, stage: str, done: int, known: int) -> None:
        # A later wave of work makes `known` grow; what was shown never goes back.
        self.stages[stage] = max(self.stages[stage], done / known)


class Tasks:
    def __init__(self, spool: Path, limit: int, metrics: Metrics) -> None:
        self._spool = spool
        self._limit = limit
        self._metrics = metrics
        self._active: dict[str, Task] = {}
        self._completed = 0
        self._failed = 0
        self._seconds = 0.0  # of processing, all completed tasks together
        self._stage_seconds = dict.fromkeys(_WEIGHTS, 0.0)

    def __len__(self) -> int:
        return len(self._active)

    @contextmanager
    def admit(self) -> Iterator[Task]:
        """A place for one task, counted by how it ends. Raises Busy when every place is taken."""
        if len(self._active) >= self._limit:
            raise Busy("Too many tasks are waiting; try again later.", retry_after=self._wait_estimate())
        task = Task(Path())
        task.folder = self._spool / task.id
        self._active[task.id] = task
        outcome = "cancelled"
        try:
            yield task
            outcome = "completed"
        except ServiceError as error:
            outcome = "failed" if error.status >= 500 else "rejected"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            del self._active[task.id]
            self._failed += outcome == "failed"
            self._metrics.tasks.labels(outcome).inc()

    def record(self, document: Mapping[str, Any]) -> None:
        """Count a completed task's timings."""
        timings = document["performance"]
        self._completed += 1
        self._seconds += timings["processing_time"]
        for stage, key in (
            ("decode", "decode_time"),
            ("transcribe", "transcription_time"),
            ("diarize", "diarization_time"),
        ):
            self._stage_seconds[stage] += timings[key]
            self._metrics.stage.labels(stage).observe(timings[key])
        self._metrics.total.observe(timings["processing_time"])
        self._metrics.audio.inc(document["duration"])
        self._metrics.real_time_factor.observe(timings["real_time_factor"])

    def stats(self) -> dict[str, Any]:
        count = max(self._completed, 1)
        return {
            "total_tasks": self._completed + self._failed + len(self._active),
            "completed_tasks": self._completed,
            "failed_tasks": self._failed,
            "average_processing_time": self._seconds / count,
            "average_stage_times": {stage: total / count for stage, total in self._stage_seconds.items()},
            "active_tasks": [
                {
                    "task_id": task.id,
                    "status": task.status,
                    "progress": task.progress,
                    "stages": {stage: round(100 * share, 1) for stage, share in task.stages.items()},
                    "created_at": task.created_at,
                }
                for task in self._active.values()
            ],
        }

    def _wait_estimate(self) -> float:
        """Seconds until a place is likely free: what an average task takes."""
        return max(1.0, self._seconds / max(self._completed, 1))
