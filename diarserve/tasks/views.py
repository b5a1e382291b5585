"""What clients see of a task. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from diarserve.core.errors import NotFound, ServiceError
from diarserve.core.options import Options
from diarserve.tasks.store.protocol import TaskRow
from diarserve.tasks.task import Task, stages
from diarserve.transcript.document import Document


def status_of(row: TaskRow, task: Task | None = None, ahead: int | None = None) -> dict[str, Any]:
    """`{"status": {...}}`. `task` where it is under way in this server; `ahead`: how many go first."""
    live = task if task is not None and row.status == "processing" else None
    ended = row.status in ("completed", "expired")
    still = 100.0 if ended else 0.0
    return {
        "status": {
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
    }


class Unfinished(ServiceError):
    """Somebody asks for the result of a task that has none (yet)."""

    status = 409
    code = "not_finished"

    def __init__(self, row: TaskRow) -> None:
        super().__init__(f"Task {row.id} is {row.status}: there is no result.")
        self._row = row

    def body(self) -> dict[str, Any]:
        return super().body() | status_of(self._row)


def accepted(row: TaskRow) -> dict[str, Any]:
    return {
        "task_id": row.id,
        "status": row.status,
        "status_url": f"/api/v1/parallel/status/{row.id}",
        "result_url": f"/api/v1/parallel/result/{row.id}",
        "events_url": f"/api/v1/parallel/events/{row.id}",
    }


def accepted_batch(rows: Sequence[TaskRow]) -> dict[str, Any]:
    return {
        "batch_id": rows[0].batch_id,
        "status": _status(rows),
        "total_files": len(rows),
        "status_url": f"/api/v1/parallel/batches/{rows[0].batch_id}",
        "tasks": [accepted(row) for row in rows],
    }


def batch(batch_id: str, rows: Sequence[TaskRow]) -> dict[str, Any]:
    """A batch of tasks that survive, by position. Raises NotFound where there is none."""
    if not rows:
        raise NotFound(f"There is no batch {batch_id}.")
    statuses = [row.status for row in rows]
    return {
        "batch_id": batch_id,
        "status": _status(rows),
        "total_files": len(rows),
        "successful": statuses.count("completed"),
        "failed": statuses.count("failed") + statuses.count("cancelled"),
        "expired": statuses.count("expired"),
        "tasks": [status_of(row)["status"] | {"result_url": accepted(row)["result_url"]} for row in rows],
    }


def _status(rows: Sequence[TaskRow]) -> str:
    if all(row.ended for row in rows):
        return "completed"
    return "queued" if all(row.status == "queued" for row in rows) else "processing"


def batch_results(
    batch_id: str, results: Sequence[Document | ServiceError], names: Sequence[str], seconds: float
) -> dict[str, Any]:
    """A batch whose client waited: a document or an error for each file, in order."""
    documents = [result for result in results if isinstance(result, Document)]
    work = sum(one.performance.transcription_time + one.performance.diarization_time for one in documents)
    return {
        "batch_id": batch_id,
        "total_files": len(results),
        "successful": len(documents),
        "failed": len(results) - len(documents),
        "results": [
            result
            if isinstance(result, Document)
            else {"status": "failed", "filename": name, "http_status": result.status, **result.body()}
            for result, name in zip(results, names, strict=True)
        ],
        "performance": {
            "total_time": round(seconds, 4),
            # The models' times, as if they had run one after the other, over the time it took.
            "estimated_speedup": round(work / max(seconds, 1e-6), 3),
            "audio_duration": round(sum(one.duration for one in documents), 3),
        },
    }


def problem(error: Mapping[str, Any]) -> ServiceError:
    """A failed task's error, as it would have been answered to a client that waited."""
    shown = ServiceError(error["message"], code=error["code"], param=error.get("param"))
    shown.status = error["status"]
    return shown


def moment(seconds: float | None) -> str | None:
    """RFC 3339, UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
