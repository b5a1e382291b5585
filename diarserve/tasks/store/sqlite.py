"""Durable tasks in one SQLite file."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import orjson

from diarserve.core.types import PRIORITIES, Priority, Status
from diarserve.tasks.store import sqlite_schema as schema
from diarserve.tasks.store.protocol import Callback, NewTask, QueueFull, TaskRow, Totals, Waiting, origin
from diarserve.tasks.store.rows import ROW, by_status, crashed, first, place, task_row, totals
from diarserve.tasks.store.sqlite_revisions import SqliteRevisions

_UNDER_WAY = "id = ? AND attempts = ? AND status = 'processing'"  # the fence


class SqliteStore(SqliteRevisions):
    """One connection in a thread of its own. A process that was forked must not touch it."""

    @classmethod
    async def open(cls, path: Path, lock_timeout: float = 5.0) -> Self:
        """lock_timeout: seconds for an earlier server to let the file go. Raises StoreError."""
        return cls(await schema.connect(path, lock_timeout))

    async def add(
        self, tasks: Sequence[NewTask], idempotency_key: str | None = None, *, max_queued: int | None = None
    ) -> tuple[list[TaskRow], bool]:
        now = time.time()
        async with self._transaction():
            if idempotency_key is not None and tasks:
                same = "idempotency_key = ? AND owner = ? ORDER BY seq"
                if earlier := await self._select(same, idempotency_key, tasks[0].owner):
                    return earlier, False
            if max_queued is not None and await self._queued() + len(tasks) > max_queued:
                raise QueueFull
            return [await self._insert(task, idempotency_key, now) for task in tasks], True

    async def claim(self, room: Mapping[Priority, int]) -> list[TaskRow]:
        claimed: list[tuple[Any, ...]] = []
        async with self._transaction():
            for priority, limit in room.items():
                claimed += await self._execute(
                    f"""UPDATE tasks SET status = 'processing', attempts = attempts + 1, started_at = ?
                    WHERE seq IN (SELECT seq FROM tasks WHERE status = 'queued' AND priority = ? ORDER BY seq LIMIT ?)
                    RETURNING priority, seq, {ROW}""",
                    time.time(),
                    PRIORITIES.index(priority),
                    limit,
                )
        # RETURNING promises no order.
        return [task_row(row[2:]) for row in sorted(claimed, key=lambda row: row[:2])]

    async def complete(
        self, id: str, attempt: int, document: bytes, *, audio_seconds: float, processing_seconds: float
    ) -> bool:
        async with self._transaction():
            ended = await self._end(
                "completed", _UNDER_WAY, id, attempt, audio=audio_seconds, processing=processing_seconds
            )
            if ended:
                await self._execute("INSERT INTO documents SELECT seq, ? FROM tasks WHERE id = ?", document, id)
        return bool(ended)

    async def fail(self, id: str, attempt: int, error: dict[str, Any]) -> bool:
        async with self._transaction():
            return bool(await self._end("failed", _UNDER_WAY, id, attempt, error=error))

    async def release(self, id: str, attempt: int) -> bool:
        async with self._transaction():
            return bool(
                await self._execute(
                    f"""UPDATE tasks SET status = 'queued', attempts = attempts - 1, started_at = NULL
                    WHERE {_UNDER_WAY} RETURNING id""",
                    id,
                    attempt,
                )
            )

    async def cancel(self, id: str) -> TaskRow | None:
        async with self._transaction():
            await self._end("cancelled", "id = ? AND status IN ('queued', 'processing')", id)
            return first(await self._select("id = ?", id))

    async def delete(self, id: str) -> TaskRow | None:
        async with self._transaction():
            deleted = await self._execute(
                f"DELETE FROM tasks WHERE id = ? AND finished_at IS NOT NULL RETURNING {ROW}", id
            )
            if not deleted:
                return None
            row = task_row(deleted[0])
            if row.batch_id is not None:
                await self._execute("UPDATE tasks SET idempotency_key = NULL WHERE batch_id = ?", row.batch_id)
            self._deletions += 1
        await self._erase()
        return row

    async def get(self, id: str) -> TaskRow | None:
        async with self._lock:
            return first(await self._select("id = ?", id))

    async def result(self, id: str) -> bytes | None:
        async with self._lock:
            found = await self._execute("SELECT document FROM documents JOIN tasks ON task = seq WHERE id = ?", id)
        return found[0][0] if found else None

    async def ahead(self, id: str) -> int | None:
        async with self._lock:
            found = await self._execute(
                """SELECT (SELECT count(*) FROM tasks AS other
                           WHERE status = 'queued' AND (other.priority, other.seq) < (tasks.priority, tasks.seq))
                FROM tasks WHERE id = ? AND status = 'queued'""",
                id,
            )
        return found[0][0] if found else None

    async def page(
        self,
        *,
        status: Status | None = None,
        batch_id: str | None = None,
        owner: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[TaskRow]:
        asked: dict[str, tuple[Any, ...]] = {
            "status = ?": (status,),
            "batch_id = ?": (batch_id,),
            "owner = ?": (owner,),
            # Another's task is no place to go on from: else one could learn by it that it is there.
            """seq < ifnull((SELECT seq FROM tasks WHERE id = ? AND owner = ifnull(?, owner)),
                (SELECT max(seq) + 1 FROM tasks WHERE (created_at, position) < (?, ?)))""": place(before, owner),
        }
        given = {condition: values for condition, values in asked.items() if values[0] is not None}
        where = " AND ".join(given) or "TRUE"
        async with self._lock:
            return await self._select(f"{where} ORDER BY seq DESC LIMIT ?", *chain(*given.values()), limit)

    async def batch(self, batch_id: str, owner: str | None = None) -> list[TaskRow]:
        async with self._lock:
            return await self._select("batch_id = ? AND owner = ifnull(?, owner) ORDER BY position", batch_id, owner)

    async def recover(self, max_attempts: int) -> tuple[list[TaskRow], list[TaskRow]]:
        error = crashed(max_attempts)
        async with self._transaction():
            failed = await self._end("failed", "status = 'processing' AND attempts >= ?", max_attempts, error=error)
            queued = await self._execute(
                f"""UPDATE tasks SET status = 'queued', started_at = NULL WHERE status = 'processing'
                RETURNING {ROW}"""
            )
        return [task_row(row) for row in queued], failed

    async def expire(self, older_than: float) -> list[str]:
        old = "finished_at < ? AND status <> 'expired'"
        async with self._transaction():
            await self._execute(f"DELETE FROM documents WHERE task IN (SELECT seq FROM tasks WHERE {old})", older_than)
            expired = await self._execute(f"UPDATE tasks SET status = 'expired' WHERE {old} RETURNING id", older_than)
            self._deletions += bool(expired)
        await self._erase()
        return [row[0] for row in expired]

    async def purge(self, older_than: float) -> int:
        async with self._transaction():
            purged = await self._execute(
                "DELETE FROM tasks WHERE finished_at < ? AND status = 'expired' RETURNING id", older_than
            )
            self._deletions += bool(purged)
        await self._erase()
        return len(purged)

    async def counts(self) -> dict[Status, int]:
        async with self._lock:
            return by_status(await self._execute("SELECT status, tasks FROM counts"))

    async def totals(self) -> Totals:
        async with self._lock:
            rows = await self._execute("SELECT status, tasks, audio_seconds, processing_seconds FROM totals")
        return totals(rows)

    async def waiting(self) -> Waiting:
        oldest: dict[Priority, float] = {}
        async with self._lock:
            for index, priority in enumerate(PRIORITIES):
                first = "status = 'queued' AND priority = ? ORDER BY seq LIMIT 1"
                for (created_at,) in await self._execute(f"SELECT created_at FROM tasks WHERE {first}", index):
                    oldest[priority] = created_at
            [[callbacks]] = await self._execute("SELECT count(*) FROM tasks WHERE callback_state = 'due'")
        return Waiting(oldest, callbacks)

    async def due_callbacks(self, now: float, limit: int, *, except_origins: Collection[str] = ()) -> list[Callback]:
        excluded = ", ".join("?" * len(except_origins))
        async with self._lock:
            rows = await self._execute(
                f"""SELECT callback_attempts, {ROW} FROM tasks WHERE callback_state = 'due' AND callback_at <= ?
                AND ifnull(callback_origin, '') NOT IN ({excluded}) ORDER BY callback_at, seq LIMIT ?""",
                now,
                *except_origins,
                limit,
            )
        tasks = [(task_row(row[1:]), row[0]) for row in rows]
        return [Callback(task, attempts, origin(task.callback_url or "")) for task, attempts in tasks]

    async def take_callbacks(self, ids: Collection[str], until: float) -> set[str]:
        return set(ids)  # there is no other server

    async def callback_sent(self, id: str) -> None:
        await self._called_back(id, "sent", None)

    async def callback_failed(self, id: str, next_at: float | None) -> None:
        await self._called_back(id, "given up" if next_at is None else "due", next_at)

    async def _called_back(self, id: str, state: str, next_at: float | None) -> None:
        async with self._transaction():
            await self._execute(
                """UPDATE tasks SET callback_state = ?, callback_at = ?, callback_attempts = callback_attempts + 1
                WHERE id = ? AND callback_state = 'due'""",
                state,
                next_at,
                id,
            )

    async def _queued(self) -> int:
        found = await self._execute("SELECT tasks FROM counts WHERE status = 'queued'")
        return found[0][0] if found else 0

    async def _insert(self, task: NewTask, idempotency_key: str | None, now: float) -> TaskRow:
        [row] = await self._execute(
            f"""INSERT INTO tasks
            (id, filename, options, priority, batch_id, position, callback_url, callback_origin, idempotency_key,
            owner, upload_sha256, traceparent, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            RETURNING {ROW}""",
            task.id,
            task.filename,
            orjson.dumps(task.options).decode(),
            PRIORITIES.index(task.priority),
            task.batch_id,
            task.position,
            task.callback_url,
            task.callback_url and origin(task.callback_url),
            idempotency_key,
            task.owner,
            task.upload_sha256,
            task.traceparent,
            now,
        )
        return task_row(row)

    async def _end(
        self,
        status: Status,
        where: str,
        *values: Any,
        error: dict[str, Any] | None = None,
        audio: float = 0.0,
        processing: float = 0.0,
    ) -> list[TaskRow]:
        """End the tasks, count them, and make their callbacks due."""
        now = time.time()
        ended = await self._execute(
            f"""UPDATE tasks SET status = ?, error = ?, finished_at = ?,
            callback_state = iif(callback_url IS NULL, NULL, 'due'), callback_at = iif(callback_url IS NULL, NULL, ?)
            WHERE {where} RETURNING {ROW}""",
            status,
            None if error is None else orjson.dumps(error).decode(),
            now,
            now,
            *values,
        )
        if ended:
            await self._execute(
                """INSERT INTO totals VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET tasks = tasks + excluded.tasks,
                audio_seconds = audio_seconds + excluded.audio_seconds,
                processing_seconds = processing_seconds + excluded.processing_seconds""",
                status,
                len(ended),
                audio,
                processing,
            )
        return [task_row(row) for row in ended]

    async def _select(self, where: str, *values: Any) -> list[TaskRow]:
        return [task_row(row) for row in await self._execute(f"SELECT {ROW} FROM tasks WHERE {where}", *values)]
