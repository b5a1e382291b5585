"""What clients see of a task: the answers' types, and the functions that make them. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from diarserve.core.errors import ErrorAnswer, ErrorDetail, NotFound, ServiceError
from diarserve.core.options import Options
from diarserve.core.types import Priority, Status
from diarserve.tasks.store.protocol import TaskRow
from diarserve.tasks.task import Task, stages
from diarserve.transcript.document import Document, Seconds

Count = Annotated[int, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Moment = Annotated[str, Meta(description="RFC 3339, UTC.", extra_json_schema={"format": "date-time"})]
BatchStatus = Literal["queued", "processing", "completed"]


class TaskStatus(Struct, kw_only=True):
    task_id: str
    batch_id: str | None
    filename: str
    status: Status
    progress: Percent
    stage: Annotated[
        str, Meta(description="The first stage that is not done; `waiting_for_storage` while the disk is full.")
    ]
    stages: Annotated[Mapping[str, Percent], Meta(description="How far each stage is that was asked for.")]
    priority: Priority
    queue_position: Annotated[Count | None, Meta(description="1: it is next.")]
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    attempts: Count
    error: str | None
    error_code: str | None


class BatchTask(TaskStatus, kw_only=True):
    result_url: str


class StatusAnswer(Struct):
    status: TaskStatus


class TasksPage(Struct):
    tasks: Sequence[TaskStatus]
    next: Annotated[str | None, Meta(description="What to send as `before` for the page after this one.")]


class Accepted(Struct):
    task_id: str
    status: Status
    status_url: str
    result_url: str
    events_url: str


class AcceptedBatch(Struct):
    batch_id: str
    status: BatchStatus
    total_files: Count
    status_url: str
    tasks: Sequence[Accepted]


class Batch(Struct):
    batch_id: str
    status: BatchStatus
    total_files: Count
    successful: Count
    failed: Count
    expired: Count
    tasks: Annotated[Sequence[BatchTask], Meta(description="In the order of the files.")]


class FailedFile(Struct):
    status: Literal["failed"]
    filename: str
    http_status: Count
    error: ErrorDetail


class BatchPerformance(Struct):
    total_time: Seconds
    estimated_speedup: Annotated[
        float, Meta(description="The models' times, as if they had run one after the other, over the time it took.")
    ]
    audio_duration: Seconds
    parallel_processing: bool


class BatchResults(Struct):
    batch_id: str
    total_files: Count
    successful: Count
    failed: Count
    results: Annotated[
        Sequence[Any],  # Document or FailedFile; msgspec has no schema of such a union
        Meta(
            description="In the order of the files.",
            extra_json_schema={
                "items": {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Document", "FailedFile")]}
            },
        ),
    ]
    performance: BatchPerformance


def task_status(row: TaskRow, task: Task | None = None, ahead: int | None = None) -> TaskStatus:
    """`task` where it is under way in this server; `ahead`: how many go first."""
    return TaskStatus(**_status_fields(row, task, ahead))


def status_of(row: TaskRow) -> dict[str, Any]:
    """As builtins: `{"status": {...}}`."""
    return {"status": msgspec.to_builtins(task_status(row))}


def _status_fields(row: TaskRow, task: Task | None = None, ahead: int | None = None) -> dict[str, Any]:
    live = task if task is not None and row.status == "processing" else None
    ended = row.status in ("completed", "expired")
    still = 100.0 if ended else 0.0
    return {
        "task_id": row.id,
        "batch_id": row.batch_id,
        "filename": row.filename,
        "status": row.status,
        "progress": live.progress if live else still,
        "stage": live.stage if live else row.status,
        "stages": live.percents() if live else dict.fromkeys(stages(Options.model_validate(row.options)), still),
        "priority": row.priority,
        "queue_position": None if ahead is None else ahead + 1,
        "created_at": moment(row.created_at),
        "started_at": moment(row.started_at),
        "finished_at": moment(row.finished_at),
        "attempts": row.attempts,
        "error": row.error["message"] if row.error else None,
        "error_code": row.error["code"] if row.error else None,
    }


class UnfinishedAnswer(ErrorAnswer):
    status: TaskStatus


class Unfinished(ServiceError):
    """Somebody asks for the result of a task that has none (yet)."""

    status = 409
    code = "not_finished"

    def __init__(self, row: TaskRow) -> None:
        super().__init__(f"Task {row.id} is {row.status}: there is no result.")
        self._row = row

    def body(self) -> UnfinishedAnswer:
        return {"error": super().body()["error"], "status": task_status(self._row)}


def accepted(row: TaskRow) -> Accepted:
    return Accepted(
        task_id=row.id,
        status=row.status,
        status_url=f"/api/v1/parallel/status/{row.id}",
        result_url=_result_url(row),
        events_url=f"/api/v1/parallel/events/{row.id}",
    )


def _result_url(row: TaskRow) -> str:
    return f"/api/v1/parallel/result/{row.id}"


def accepted_batch(batch_id: str, rows: Sequence[TaskRow]) -> AcceptedBatch:
    return AcceptedBatch(
        batch_id=batch_id,
        status=_status(rows),
        total_files=len(rows),
        status_url=f"/api/v1/parallel/batches/{batch_id}",
        tasks=[accepted(row) for row in rows],
    )


def batch(batch_id: str, rows: Sequence[TaskRow]) -> Batch:
    """A batch of tasks that survive, by position. Raises NotFound where there is none."""
    if not rows:
        raise NotFound(f"There is no batch {batch_id}.")
    statuses = [row.status for row in rows]
    return Batch(
        batch_id=batch_id,
        status=_status(rows),
        total_files=len(rows),
        successful=statuses.count("completed"),
        failed=statuses.count("failed") + statuses.count("cancelled"),
        expired=statuses.count("expired"),
        tasks=[BatchTask(**_status_fields(row), result_url=_result_url(row)) for row in rows],
    )


def _status(rows: Sequence[TaskRow]) -> BatchStatus:
    if all(row.ended for row in rows):
        return "completed"
    return "queued" if all(row.status == "queued" for row in rows) else "processing"


def batch_results(
    batch_id: str,
    results: Sequence[Document | ServiceError],
    names: Sequence[str],
    seconds: float,
    *,
    parallel: bool,
) -> BatchResults:
    """A batch whose client waited: a document or an error for each file, in order."""
    documents = [result for result in results if isinstance(result, Document)]
    work = sum(one.performance.transcription_time + one.performance.diarization_time for one in documents)
    return BatchResults(
        batch_id=batch_id,
        total_files=len(results),
        successful=len(documents),
        failed=len(results) - len(documents),
        results=[
            result
            if isinstance(result, Document)
            else FailedFile("failed", name, result.status, result.body()["error"])
            for result, name in zip(results, names, strict=True)
        ],
        performance=BatchPerformance(
            total_time=round(seconds, 4),
            estimated_speedup=round(work / max(seconds, 1e-6), 3),
            audio_duration=round(sum(one.duration for one in documents), 3),
            parallel_processing=parallel,
        ),
    )


def problem(error: Mapping[str, Any]) -> ServiceError:
    """A failed task's error, as it would have been answered to a client that waited."""
    shown = ServiceError(error["message"], code=error["code"], param=error.get("param"))
    shown.status = error["status"]
    return shown


def moment(seconds: float | None) -> str | None:
    """RFC 3339, UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
