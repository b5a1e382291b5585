"""What the server tells of tasks."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

ENDED = ("completed", "failed", "cancelled", "expired")


class Progress(Struct, frozen=True):
    """Percent, of the task and of each stage that was asked for (decode, separate, transcribe, align, diarize)."""

    progress: float
    stage: str  # the first that is not done
    stages: Mapping[str, float]


class Sentence(Struct, frozen=True):
    """Words as they are known, before the transcript is finished. The speaker is provisional, and None until the
    diarizer is done."""

    start: float  # seconds
    end: float
    text: str
    speaker: str | None = None


class TaskStatus(Struct, frozen=True, kw_only=True):
    task_id: str
    status: str  # queued, processing, or one of ENDED
    filename: str = ""
    batch_id: str | None = None
    progress: float = 0.0  # percent
    stage: str = ""
    stages: Mapping[str, float] = {}
    priority: str = "normal"
    queue_position: int | None = None  # 1: it is next
    created_at: str | None = None  # RFC 3339, UTC
    started_at: str | None = None
    finished_at: str | None = None
    attempts: int = 0
    error: str | None = None
    error_code: str | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class StatusAnswer(Struct):
    status: TaskStatus


class TasksPage(Struct):
    tasks: tuple[TaskStatus, ...]
    next: str | None = None  # what to give as `before` for the page after this one


class Accepted(Struct):
    """A task that will be worked on, whatever happens to the server."""

    task_id: str
    status: str
    status_url: str
    result_url: str
    events_url: str


Event = Progress | Sentence | TaskStatus  # the last is a TaskStatus: the task has ended

_KINDS: Mapping[str, type[Event]] = {"progress": Progress, "segment": Sentence, "done": TaskStatus}


def event(name: str, data: bytes) -> Event | None:
    """A server-sent event; None for one that this client does not know. Raises msgspec.DecodeError."""
    kind = _KINDS.get(name)
    return msgspec.json.decode(data, type=kind) if kind else None
