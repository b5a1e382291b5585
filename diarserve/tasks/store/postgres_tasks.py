"""Tasks in PostgreSQL as clients see them: added, cancelled, deleted, read, listed, told of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import orjson
from psycopg_pool import AsyncConnectionPool

from diarserve.core.types import PRIORITIES, Status
from diarserve.tasks.store.objects import Objects
from diarserve.tasks.store.postgres_connection import PostgresConnection, Row, Statement, Transaction
from diarserve.tasks.store.protocol import Callback, NewTask, QueueFull, TaskProgress, TaskRow, Totals, Waiting, origin
from diarserve.tasks.store.rows import ROW, by_status, first, place, task_row, totals

SELECTED = f"{ROW}, progress"  # for `shared_row`
NOW = "extract(epoch FROM clock_timestamp())"  # one clock for all servers
CHANNEL = "diarserve"


def shared_row(row: Row) -> TaskRow:
    progress = row[-1] and orjson.loads(row[-1])
    return task_row(row[:-1], TaskProgress(**progress) if progress else None)


def folder(id: str) -> str:
    """The objects of a task."""
    return f"tasks/{id}/"


class PostgresTasks(PostgresConnection):
    def __init__(self, pool: AsyncConnectionPool, conninfo: str, objects: Objects) -> None:
        super().__init__(pool, conninfo)
        self._objects = objects

    async def add(
        self, tasks: Sequence[NewTask], idempotency_key: str | None = None, *, max_queued: int | None = None
    ) -> tuple[list[TaskRow], bool]:
        """As Store.add; but tasks that are being added at the same moment are not counted for max_queued."""
        async with self._transaction() as run:
            if idempotency_key is not None and tasks:
                asked = {"key": idempotency_key, "owner": tasks[0].owner}
                # Of two calls with one key, the second waits here until the first is there to be found.
                await run("SELECT pg_advisory_xact_lock(hashtextextended(%(key)s || ' ' || %(owner)s, 0))", **asked)
                same = "idempotency_key = %(key)s AND owner = %(owner)s ORDER BY seq"
                if earlier := await self._select(run, same, **asked):
                    return earlier, False
            if max_queued is not None:
                [[queued]] = await run("SELECT coalesce(sum(tasks), 0) FROM counts WHERE status = 'queued'")
                if queued + len(tasks) > max_queued:
                    raise QueueFull
            rows = [await self._insert(run, task, idempotency_key) for task in tasks]
            await notify(run, "queued", *(row.id for row in rows))
            return rows, True

    async def cancel(self, id: str) -> TaskRow | None:
        async with self._transaction() as run:
            await self._end(run, "cancelled", "id = %(id)s AND status IN ('queued', 'processing')", {}, id=id)
            return first(await self._select(run, "id = %(id)s", id=id))

    async def delete(self, id: str) -> TaskRow | None:
        """The document first, then its object, then the row: where the object store fails, the task is there to be
        deleted again, as an expired one."""
        async with self._transaction() as run:
            row = first(await self._select(run, "id = %(id)s AND finished_at IS NOT NULL FOR UPDATE", id=id))
            if row is None:
                return None
            await self._expire(run, "id = %(id)s", id=id)
        await self._objects.remove(folder(id))
        async with self._transaction() as run:
            if not await run("DELETE FROM tasks WHERE id = %(id)s RETURNING id", id=id):
                return None
            if row.batch_id is not None:
                forget = "UPDATE tasks SET idempotency_key = NULL WHERE batch_id = %(batch)s"
                await run(forget, batch=row.batch_id)
            await notify(run, "ended", id)
        return row

    async def get(self, id: str) -> TaskRow | None:
        return first(await self._select(self._once, "id = %(id)s", id=id))

    async def result(self, id: str) -> bytes | None:
        found = await self._once("SELECT document FROM tasks WHERE id = %(id)s AND document IS NOT NULL", id=id)
        return await self._objects.get(folder(id) + found[0][0]) if found else None

    async def ahead(self, id: str) -> int | None:
        async with self._transaction() as run:
            found = await run(
                """SELECT (SELECT count(*) FROM tasks AS other
                           WHERE status = 'queued' AND (other.priority, other.seq) < (tasks.priority, tasks.seq))
                FROM tasks WHERE id = %(id)s AND status = 'queued'""",
                id=id,
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
        id, _, created, position = place(before, owner)
        values = {"status": status, "batch_id": batch_id, "owner": owner, "id": id}
        conditions = {
            "status": "status = %(status)s",
            "batch_id": "batch_id = %(batch_id)s",
            "owner": "owner = %(owner)s",
            # Another's task is no place to go on from: else one could learn by it that it is there.
            "id": """seq < coalesce(
                (SELECT seq FROM tasks WHERE id = %(id)s AND owner = coalesce(%(owner)s::text, owner)),
                (SELECT max(seq) + 1 FROM tasks WHERE (created_at, position::double precision)
                    < (%(created)s::double precision, %(position)s::double precision)))""",
        }
        where = " AND ".join(conditions[name] for name, value in values.items() if value is not None) or "TRUE"
        async with self._transaction() as run:
            where = f"{where} ORDER BY seq DESC LIMIT %(limit)s"
            return await self._select(run, where, **values, created=created, position=position, limit=limit)

    async def batch(self, batch_id: str, owner: str | None = None) -> list[TaskRow]:
        where = "batch_id = %(batch)s AND owner = coalesce(%(owner)s::text, owner) ORDER BY position"
        async with self._transaction() as run:
            return await self._select(run, where, batch=batch_id, owner=owner)

    async def counts(self) -> dict[Status, int]:
        async with self._transaction() as run:
            rows = await run("SELECT status, sum(tasks)::bigint FROM counts GROUP BY status")
        return by_status(rows)

    async def waiting(self) -> Waiting:
        async with self._transaction() as run:
            oldest = await run(
                """SELECT each.priority, (SELECT created_at FROM tasks
                WHERE status = 'queued' AND tasks.priority = each.priority ORDER BY seq LIMIT 1)
                FROM unnest(%(priorities)s::int[]) AS each (priority)""",
                priorities=list(range(len(PRIORITIES))),
            )
            [[callbacks]] = await run("SELECT count(*) FROM tasks WHERE callback_state = 'due'")
        return Waiting({PRIORITIES[index]: created for index, created in oldest if created is not None}, callbacks)

    async def totals(self) -> Totals:
        async with self._transaction() as run:
            rows = await run(
                """SELECT status, sum(tasks)::bigint, sum(audio_seconds), sum(processing_seconds) FROM totals
                GROUP BY status"""
            )
        return totals(rows)

    async def due_callbacks(self, now: float, limit: int, *, except_origins: Collection[str] = ()) -> list[Callback]:
        async with self._transaction() as run:
            rows = await run(
                f"""SELECT callback_attempts, {SELECTED} FROM tasks WHERE callback_state = 'due'
                AND callback_at <= %(now)s AND NOT coalesce(callback_origin, '') = ANY(%(busy)s::text[])
                ORDER BY callback_at, seq LIMIT %(limit)s""",
                now=now,
                busy=list(except_origins),
                limit=limit,
            )
        tasks = [(shared_row(row[1:]), row[0]) for row in rows]
        return [Callback(task, attempts, origin(task.callback_url or "")) for task, attempts in tasks]

    async def take_callbacks(self, ids: Collection[str], until: float) -> set[str]:
        async with self._transaction() as run:
            taken = await run(
                f"""UPDATE tasks SET callback_at = %(until)s
                WHERE id = ANY(%(ids)s) AND callback_state = 'due' AND callback_at <= {NOW} RETURNING id""",
                ids=list(ids),
                until=until,
            )
        return {id for (id,) in taken}

    async def callback_sent(self, id: str) -> None:
        await self._called_back(id, "sent", None)

    async def callback_failed(self, id: str, next_at: float | None) -> None:
        await self._called_back(id, "given up" if next_at is None else "due", next_at)

    async def _called_back(self, id: str, state: str, next_at: float | None) -> None:
        async with self._transaction() as run:
            await run(
                """UPDATE tasks SET callback_state = %(state)s, callback_at = %(at)s,
                callback_attempts = callback_attempts + 1 WHERE id = %(id)s AND callback_state = 'due'""",
                id=id,
                state=state,
                at=next_at,
            )

    async def _end(
        self, run: Transaction, status: Status, where: str, how: dict[str, Any], **values: Any
    ) -> list[TaskRow]:
        """End the tasks, count them, and make their callbacks due."""
        error = how.get("error")
        ended = await run(
            f"""UPDATE tasks SET status = %(status)s, error = %(error)s, document = %(document)s, finished_at = {NOW},
            progress = NULL, callback_state = CASE WHEN callback_url IS NOT NULL THEN 'due' END,
            callback_at = CASE WHEN callback_url IS NOT NULL THEN {NOW} END WHERE {where} RETURNING {SELECTED}, seq""",
            status=status,
            error=None if error is None else orjson.dumps(error).decode(),
            document=how.get("document"),
            **values,
        )
        if ended:
            if status == "cancelled":  # those who watch others are to read their last words
                await run("DELETE FROM news WHERE task = ANY(%(tasks)s)", tasks=[row[-1] for row in ended])
            await run(
                "INSERT INTO totals VALUES (%(status)s, %(tasks)s, %(audio)s, %(processing)s)",
                status=status,
                tasks=len(ended),
                audio=how.get("audio", 0.0),
                processing=how.get("processing", 0.0),
            )
            rows = [shared_row(row[:-1]) for row in ended]
            await notify(run, "ended", *(row.id for row in rows))
            return rows
        return []

    async def _expire(self, run: Transaction, where: str, **values: Any) -> list[TaskRow]:
        """Drop what is said of these ended tasks' recordings; their objects are the caller's to remove."""
        rows = await run(
            f"UPDATE tasks SET status = 'expired', document = NULL WHERE {where} RETURNING {SELECTED}, seq", **values
        )
        await run("DELETE FROM revisions WHERE task = ANY(%(tasks)s)", tasks=[row[-1] for row in rows])
        return [shared_row(row[:-1]) for row in rows]

    @staticmethod
    async def _insert(run: Transaction, task: NewTask, idempotency_key: str | None) -> TaskRow:
        [row] = await run(
            f"""INSERT INTO tasks
            (id, filename, options, priority, batch_id, position, callback_url, callback_origin, idempotency_key,
            owner, upload_sha256, traceparent, created_at) VALUES (%(id)s, %(filename)s, %(options)s, %(priority)s,
            %(batch)s, %(position)s, %(url)s, %(origin)s, %(key)s, %(owner)s, %(sha256)s, %(traceparent)s, {NOW})
            RETURNING {SELECTED}""",
            id=task.id,
            filename=task.filename,
            options=orjson.dumps(task.options).decode(),
            priority=PRIORITIES.index(task.priority),
            batch=task.batch_id,
            position=task.position,
            url=task.callback_url,
            origin=task.callback_url and origin(task.callback_url),
            key=idempotency_key,
            owner=task.owner,
            sha256=task.upload_sha256,
            traceparent=task.traceparent,
        )
        return shared_row(row)

    @staticmethod
    async def _select(run: Statement, where: str, **values: Any) -> list[TaskRow]:
        return [shared_row(row) for row in await run(f"SELECT {SELECTED} FROM tasks WHERE {where}", **values)]


async def notify(run: Transaction, kind: str, *ids: str) -> None:
    """Tell the servers, this one too, when the transaction is committed."""
    said = "SELECT pg_notify(%(channel)s, said) FROM unnest(%(said)s::text[]) AS said"
    await run(said, channel=CHANNEL, said=[f"{kind} {id}" for id in ids] or [kind])
