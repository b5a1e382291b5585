"""Rows of the table of tasks, as TaskRows: the same columns in SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import orjson

from diarserve.core.types import PRIORITIES
from diarserve.tasks.store.protocol import TaskProgress, TaskRow

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


def place(cursor: str | None, owner: str | None) -> tuple[str | None, str | None, float | None, float | None]:
    """Of a TaskRow's cursor, or of an id alone: the id, whose it must be, when it was made, and its position then."""
    id, _, rest = (cursor or "").partition("_")
    created, _, position = rest.partition("_")
    try:
        return id or None, owner, float(created), float(position)
    except ValueError:
        return id or None, owner, None, None
