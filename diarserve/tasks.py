"""The tasks under way: their progress, who watches it, and the totals of those that ended."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from diarserve.errors import Busy, NotReady, ServiceError
from diarserve.metrics import Metrics
from diarserve.options import Options
from diarserve.store import Priority
from workers.messages import Progress, Word

# How much of a task each stage is, for a progress that moves evenly.
_WEIGHTS: Mapping[str, float] = {"decode": 0.05, "separate": 0.3, "transcribe": 0.6, "align": 0.1, "diarize": 0.35}
_TIMES = {
    "decode": "decode_time",
    "separate": "separation_time",
    "transcribe": "transcription_time",
    "align": "forced_alignment_time",
    "diarize": "diarization_time",
}


def stages(options: Options) -> dict[str, float]:
    """The stages of a task with these options, and that nothing of them is done."""
    asked = {"separate": options.source_separation, "align": options.enhanced_alignment}
    return {stage: 0.0 for stage in _WEIGHTS if asked.get(stage, True)}


def new_id() -> str:
    return uuid.uuid4().hex


@dataclass(slots=True, eq=False, weakref_slot=True)
class Task:
    """One recording on its way through the pipeline."""

    folder: Path  # everything it has on disk, removed with it; named by its id
    filename: str = ""
    options: Options = field(default_factory=Options)
    priority: Priority = "high"
    translate: bool = False  # to English
    created_at: float = field(default_factory=time.time)
    status: str = "queued"
    stages: dict[str, float] = field(default_factory=dict)  # share done
    heard: list[tuple[Word, ...]] = field(default_factory=list)  # words known so far, by speech chunk
    _watchers: set[asyncio.Event] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.stages = stages(self.options)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def source(self) -> str:
        return os.path.join(self.folder, "upload")

    @property
    def progress(self) -> float:
        """Percent."""
        done = sum(_WEIGHTS[stage] * share for stage, share in self.stages.items())
        return round(100 * done / sum(_WEIGHTS[stage] for stage in self.stages), 1)

    @property
    def stage(self) -> str:
        """The first stage that is not done."""
        if self.status != "processing":
            return self.status
        return next((stage for stage, share in self.stages.items() if share < 1), "merge")

    def percents(self) -> dict[str, float]:
        return {stage: round(100 * share, 1) for stage, share in self.stages.items()}

    def advance(self, stage: str, progress: Progress) -> None:
        # A job that is tried again begins again; what was shown never goes back.
        self.stages[stage] = max(self.stages[stage], progress.share)
        if stage == "transcribe":
            self.heard += [words for words in progress.partial if words]
        self.changed()

    def finish(self, stage: str) -> None:
        self.stages[stage] = 1.0
        self.changed()

    def become(self, status: str) -> None:
        self.status = status
        if status in ("queued", "processing"):  # perhaps again
            self.stages = stages(self.options)
            self.heard.clear()
        self.changed()

    def changed(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    async def watch(self) -> AsyncGenerator[None, None]:
        """Now, and after every change until the task has ended."""
        change = asyncio.Event()
        self._watchers.add(change)
        try:
            while True:
                yield
                if self.status not in ("queued", "processing"):
                    return
                await change.wait()
                change.clear()
        finally:
            self._watchers.discard(change)


class Tasks:
    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.known: WeakValueDictionary[str, Task] = WeakValueDictionary()  # that anybody runs or watches
        self._limit = limit
        self._metrics = metrics
        self._places = 0
        self._active: dict[str, Task] = {}
        self._completed = 0
        self._failed = 0
        self._seconds = 0.0  # of processing, all completed tasks together
        self._stage_seconds = dict.fromkeys(_WEIGHTS, 0.0)
        self._stages = {stage: metrics.stage.labels(stage) for stage in _WEIGHTS}

    def __len__(self) -> int:
        return len(self._active)

    @contextmanager
    def place(self) -> Iterator[None]:
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
        self._active[task.id] = self.known[task.id] = task
        task.become("processing")
        outcome = "cancelled"
        try:
            yield
            outcome = "completed"
        except NotReady:
            outcome = "refused"  # by us, not for anything that is wrong with it: it may come again
            raise
        except ServiceError as error:
            outcome = "failed" if error.status >= 500 else "rejected"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            del self._active[task.id]
            self._failed += outcome in ("failed", "rejected")
            self._metrics.tasks.labels(outcome).inc()

    def record(self, document: Mapping[str, Any]) -> None:
        """Count a completed task's timings."""
        timings = document["performance"]
        self._completed += 1
        self._seconds += timings["processing_time"]
        for stage, key in _TIMES.items():
            self._stage_seconds[stage] += timings[key]
            self._stages[stage].observe(timings[key])
        self._metrics.total.observe(timings["processing_time"])
        self._metrics.audio.inc(document["duration"])
        self._metrics.real_time_factor.observe(timings["real_time_factor"])

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
