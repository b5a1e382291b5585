"""Rows of the table of tasks, as TaskRows: the same columns in SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import orjson

from diarserve.core.types import PRIORITIES, STATUSES, Status
from diarserve.tasks.store.protocol import TaskProgress, TaskRow, Totals

_COLUMNS = tuple(field.name for field in fields(TaskRow) if field.name != "progress")
ROW = ", ".join(_COLUMNS)  # what a statement selects or returns for `task_row`


def task_row(row: Sequence[Any], progress: TaskProgress | None = None) -> TaskRow:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["options"] = orjson.loads(values["options"])
    values["priority"] = PRIORITIES[values["priority"]]
    values["error"] = values["error"] and orjson.loads(values["error"])
    return TaskRow(**values, progress=progress)


def first(rows: list[TaskRow]) -> TaskRow | None:
    return rows[0] if rows else None


def by_status(rows: Iterable[Sequence[Any]]) -> dict[Status, int]:
    """All six, of rows of a status and a number."""
    found: dict[str, int] = {row[0]: row[1] for row in rows}
    return {status: found.get(status, 0) for status in STATUSES}


def totals(rows: Sequence[Sequence[Any]]) -> Totals:
    """Of rows of a status, a number of tasks, their seconds of audio and of processing."""
    tasks = by_status(row[:2] for row in rows)
    return Totals(
        completed=tasks["completed"],
        failed=tasks["failed"],
        cancelled=tasks["cancelled"],
        audio_seconds=sum(row[2] for row in rows),
        processing_seconds=sum(row[3] for row in rows),
    )


def crashed(attempts: int) -> dict[str, Any]:
    """The error of a task whose servers died in all its attempts."""
    message = f"The server stopped while working on this recording, {attempts} times; it was given up."
    return {"status": 500, "code": "crashed", "message": message}


def place(cursor: str | None, owner: str | None) -> tuple[str | None, str | None, float | None, float | None]:
    """Of a TaskRow's cursor, or of an id alone: the id, whose it must be, when it was made, and its position then."""
    id, _, rest = (cursor or "").partition("_")
    created, _, position = rest.partition("_")
    try:
        return id or None, owner, float(created), float(position)
    except ValueError:
        return id or None, owner, None, None
