"""One recording on its way through the pipeline: its progress, and who watches it."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diarserve.core.options import Options
from diarserve.core.types import Priority
from diarserve.tasks.partial_transcript import PartialTranscript
from diarserve.tasks.spool import REFERENCE
from workers.messages import Progress, Turn, Word

# How much of a task each stage is, for a progress that moves evenly.
STAGE_WEIGHTS: Mapping[str, float] = {"decode": 0.05, "separate": 0.3, "transcribe": 0.6, "align": 0.1, "diarize": 0.35}


def stages(options: Options) -> dict[str, float]:
    """The stages of a task with these options, and that nothing of them is done."""
    asked = {"separate": options.source_separation, "align": options.enhanced_alignment}
    return {stage: 0.0 for stage in STAGE_WEIGHTS if asked.get(stage, True)}


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
    traceparent: str = ""  # of a durable task, see TaskRow
    owner: str = ""  # the id of the access key that it was submitted with, if any
    created_at: float = field(default_factory=time.time)
    status: str = "queued"
    stages: dict[str, float] = field(default_factory=dict)  # share done
    partial: PartialTranscript = field(default_factory=PartialTranscript)
    turns: Sequence[Turn] | None = None  # once the diarizer is done
    waits_for_storage: bool = False  # it found the disk full, and is tried again
    interim: bool = False  # whether a client reads along: then its first sentences come early, for some more CPU time
    _watchers: set[asyncio.Event] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.stages = stages(self.options)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def source(self) -> str:
        return os.path.join(self.folder, "upload")

    def reference(self, number: int) -> str:
        """The file of the known speaker with this number among `options.known_speaker_names`."""
        return os.path.join(self.folder, REFERENCE.format(number))

    @property
    def partial_words(self) -> Sequence[tuple[Word, ...]]:
        """The words known so far, by stretch of speech. Grows only at its end."""
        return self.partial.chunks

    @property
    def progress(self) -> float:
        """Percent."""
        done = sum(STAGE_WEIGHTS[stage] * share for stage, share in self.stages.items())
        return round(100 * done / sum(STAGE_WEIGHTS[stage] for stage in self.stages), 1)

    @property
    def stage(self) -> str:
        """The first stage that is not done; "waiting_for_storage" while the disk is full."""
        if self.waits_for_storage:
            return "waiting_for_storage"
        if self.status != "processing":
            return self.status
        return next((stage for stage, share in self.stages.items() if share < 1), "merge")

    def percents(self) -> dict[str, float]:
        return {stage: round(100 * share, 1) for stage, share in self.stages.items()}

    def advance(self, stage: str, progress: Progress) -> None:
        # A job that is retried starts again at 0; the progress that clients see never goes back.
        self.stages[stage] = max(self.stages[stage], progress.share)
        if stage == "transcribe":
            if progress.share == 0:
                self.partial.restart()
            for words in progress.partial:
                self.partial.add(words)
            if progress.interim:
                self.partial.add_interim(progress.interim)
        self.changed()

    def finish(self, stage: str) -> None:
        self.stages[stage] = 1.0
        self.changed()

    def become(self, status: str, *, waits_for_storage: bool = False) -> None:
        self.status = status
        self.waits_for_storage = waits_for_storage
        if status in ("queued", "processing"):  # perhaps again
            self.stages = stages(self.options)
            self.partial.restart()
            self.turns = None
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
