"""Durable tasks in PostgreSQL, shared by several servers; their documents are objects. docs/cluster.md says how."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

import orjson
import psycopg
from psycopg_pool import AsyncConnectionPool

from diarserve.core.types import PRIORITIES, Priority, Status
from diarserve.tasks.store.objects import Objects
from diarserve.tasks.store.postgres_connection import Transaction, as_store_errors
from diarserve.tasks.store.postgres_revisions import PostgresRevisions
from diarserve.tasks.store.postgres_tasks import CHANNEL, NOW, SELECTED, folder, notify, shared_row
from diarserve.tasks.store.protocol import Changed, Report, StoreUnreachable, TaskRow
from diarserve.tasks.store.rows import crashed

# The fence: this server's, in the attempt that is under way.
_ATTEMPT = "id = %(id)s AND attempts = %(attempt)s AND server = %(server)s"
_OURS = f"{_ATTEMPT} AND status = 'processing'"
_ALIVE = "SELECT id FROM servers WHERE expires_at > clock_timestamp()"
# The lease.
_HOLD = "INSERT INTO servers SELECT %(server)s, clock_timestamp() + make_interval(secs => %(lease)s)"
_HELD_BEFORE = "ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at"
_SUM_UP = (
    """WITH gone AS (DELETE FROM counts RETURNING *)
    INSERT INTO counts SELECT status, sum(tasks) FROM gone GROUP BY status""",
    """WITH gone AS (DELETE FROM totals RETURNING *)
    INSERT INTO totals SELECT status, sum(tasks), sum(audio_seconds), sum(processing_seconds) FROM gone
    GROUP BY status""",
)
_NEWS_KEPT = 60.0  # seconds after the end of their task, for those who watch it at other servers
_AT_ONCE = 1000  # tasks that one call expires or purges
_IN_A_TRANSACTION = 100  # tasks that expire together: others wait for their rows meanwhile


class PostgresStore(PostgresRevisions):
    """As one server uses it: `server` names it in rows, and is another after each start."""

    def __init__(self, pool: AsyncConnectionPool, conninfo: str, objects: Objects, lease_seconds: float) -> None:
        super().__init__(pool, conninfo, objects)
        self.server = uuid.uuid4().hex
        self.lease_seconds = lease_seconds
        self._holds_since: float | None = None  # the lease, without a gap; monotonic
        self._renewed = 0.0  # monotonic
        # Attempts of whose end nobody knows whether it was committed, with the name of the document.
        self._uncertain: dict[tuple[str, int], str] = {}

    @classmethod
    async def open(cls, url: str, objects: Objects, lease_seconds: float = 30.0) -> Self:
        """url: postgresql://user@host/database. Raises StoreError."""
        return cls(*await cls.connect(url), objects, lease_seconds)

    async def close(self) -> None:
        """Its lease ends."""
        with suppress(StoreUnreachable):  # it ends by itself
            async with self._transaction() as run:
                await run("DELETE FROM servers WHERE id = %(server)s", server=self.server)
        await super().close()

    async def claim(self, room: Mapping[Priority, int]) -> list[TaskRow]:
        """One statement, which writes nothing where no task waits: most servers that are woken come too late."""
        claimed = await self._once(
            f"""WITH chosen AS MATERIALIZED (
                SELECT found.seq FROM unnest(%(priorities)s::int[], %(limits)s::int[]) AS room (priority, most),
                LATERAL (SELECT seq FROM tasks WHERE status = 'queued' AND tasks.priority = room.priority
                    ORDER BY seq LIMIT room.most FOR UPDATE SKIP LOCKED) AS found),
            claimed AS (
                UPDATE tasks SET status = 'processing', attempts = attempts + 1, started_at = {NOW},
                server = %(server)s, progress = %(progress)s FROM chosen WHERE tasks.seq = chosen.seq
                RETURNING tasks.seq, {SELECTED}),
            held AS ({_HOLD} WHERE EXISTS (SELECT FROM claimed) {_HELD_BEFORE})
            SELECT pg_notify(%(channel)s, 'claimed ' || id), {SELECTED} FROM claimed ORDER BY priority, seq""",
            priorities=[PRIORITIES.index(priority) for priority in room],
            limits=list(room.values()),
            server=self.server,
            lease=self.lease_seconds,
            progress=_encoded({}, waits=False),
            channel=CHANNEL,
        )
        return [shared_row(row[1:]) for row in claimed]

    async def complete(
        self, id: str, attempt: int, document: bytes, *, audio_seconds: float, processing_seconds: float
    ) -> bool:
        name = self._uncertain.get((id, attempt))
        if name is None:
            name = f"document-{attempt}-{uuid.uuid4().hex}"
            await self._objects.put(folder(id) + name, document)
        how = {"audio": audio_seconds, "processing": processing_seconds, "document": name}
        ended = await self._end_own(id, attempt, "completed", how)
        if not ended:
            await self._objects.remove(folder(id) + name)
        return ended

    async def fail(self, id: str, attempt: int, error: dict[str, Any]) -> bool:
        return await self._end_own(id, attempt, "failed", {"error": error})

    async def _end_own(self, id: str, attempt: int, status: Status, how: dict[str, Any]) -> bool:
        ours = {"id": id, "attempt": attempt, "server": self.server}
        try:
            async with self._transaction() as run:
                ended = await self._end(run, status, _OURS, how, **ours)
                if not ended and (id, attempt) in self._uncertain:
                    ended = await self._select(run, f"{_ATTEMPT} AND status = %(status)s", **ours, status=status)
        except StoreUnreachable:
            self._uncertain[id, attempt] = how.get("document", "")
            raise
        self._uncertain.pop((id, attempt), None)
        return bool(ended)

    async def release(self, id: str, attempt: int) -> bool:
        async with self._transaction() as run:
            released = await run(
                f"""UPDATE tasks SET status = 'queued', attempts = attempts - 1, started_at = NULL, progress = NULL,
                server = NULL WHERE {_OURS} RETURNING id""",
                id=id,
                attempt=attempt,
                server=self.server,
            )
            if released:
                await notify(run, "queued", id)
        return bool(released)

    async def recover(self, max_attempts: int) -> tuple[list[TaskRow], list[TaskRow]]:
        """Nothing, until this server has held its lease for the whole of one: after the database was away, others may
        not have had the time to renew theirs."""
        if self._holds_since is None or time.monotonic() - self._holds_since < self.lease_seconds:
            return [], []
        return await self._recover(max_attempts)

    async def _recover(self, max_attempts: int) -> tuple[list[TaskRow], list[TaskRow]]:
        lost = f"seq IN (SELECT seq FROM tasks WHERE status = 'processing' AND server NOT IN ({_ALIVE})"
        async with self._transaction() as run:
            worn_out = f"{lost} AND attempts >= %(most)s FOR UPDATE SKIP LOCKED)"
            failed = await self._end(run, "failed", worn_out, {"error": crashed(max_attempts)}, most=max_attempts)
            again = await run(
                f"""UPDATE tasks SET status = 'queued', started_at = NULL, progress = NULL, server = NULL
                WHERE {lost} FOR UPDATE SKIP LOCKED) RETURNING {SELECTED}"""
            )
            await run("DELETE FROM servers WHERE expires_at < clock_timestamp() - interval '1 hour'")
            rows = [shared_row(row) for row in again]
            if rows:
                await notify(run, "queued", *(row.id for row in rows))
        return rows, failed

    async def expire(self, older_than: float) -> list[str]:
        """Objects after the rows. Those that a crash leaves, or a store that does not answer, no task needs by then."""
        oldest = "SELECT seq FROM tasks WHERE finished_at < %(than)s AND status <> 'expired' ORDER BY finished_at"
        some = f"seq IN ({oldest} LIMIT %(limit)s FOR UPDATE SKIP LOCKED)"
        expired: list[str] = []
        for _ in range(_AT_ONCE // _IN_A_TRANSACTION):
            async with self._transaction() as run:
                rows = await self._expire(run, some, than=older_than, limit=_IN_A_TRANSACTION)
            await self._objects.remove(*(folder(row.id) for row in rows))
            expired += [row.id for row in rows]
            if len(rows) < _IN_A_TRANSACTION:
                break
        return expired

    async def purge(self, older_than: float) -> int:
        async with self._transaction() as run:
            purged = await run(
                """DELETE FROM tasks WHERE seq IN (SELECT seq FROM tasks WHERE finished_at < %(than)s
                AND status = 'expired' LIMIT %(limit)s FOR UPDATE SKIP LOCKED) RETURNING id""",
                than=older_than,
                limit=_AT_ONCE,
            )
        async with self._transaction() as run:
            old = f"SELECT seq FROM tasks WHERE finished_at < {NOW} - {_NEWS_KEPT}"
            await run(f"DELETE FROM news WHERE task IN ({old})")
            for statement in _SUM_UP:
                await run(statement)
        return len(purged)

    async def renew(self, runs: Mapping[str, int]) -> Collection[str]:
        before = time.monotonic()
        async with self._transaction() as run:
            await self._hold(run)
            own = await run(  # also what it has ended, of which its runner is about to hear
                """SELECT id, attempts FROM tasks
                WHERE id = ANY(%(ids)s) AND server = %(server)s AND status <> 'cancelled'""",
                ids=list(runs),
                server=self.server,
            )
        if self._holds_since is None or before - self._renewed > self.lease_seconds:
            self._holds_since = before
        self._renewed = before
        lost = [run for run in runs.items() if run not in own]
        for id, attempt in lost:
            if name := self._uncertain.pop((id, attempt), None):
                await self._objects.remove(folder(id) + name)
        return [id for id, _ in lost]

    async def _hold(self, run: Transaction) -> None:
        await run(f"{_HOLD} {_HELD_BEFORE}", server=self.server, lease=self.lease_seconds)

    async def report(self, reports: Sequence[Report]) -> None:
        values = [
            {
                "id": report.id,
                "attempt": report.attempt,
                "server": self.server,
                "progress": _encoded(report.progress.stages, waits=report.progress.waits_for_storage),
                "first": report.first,
                "news": list(report.news),
            }
            for report in reports
        ]
        async with self._transaction(durable=False) as run:
            await run.many(
                f"""WITH ours AS (UPDATE tasks SET progress = %(progress)s WHERE {_OURS} RETURNING seq)
                INSERT INTO news SELECT seq, %(first)s + number - 1, content
                FROM ours, unnest(%(news)s::bytea[]) WITH ORDINALITY AS new (content, number)
                ON CONFLICT DO NOTHING""",
                values,
            )
            await notify(run, "changed", *(report.id for report in reports))

    async def news(self, id: str, first: int = 0) -> list[bytes]:
        async with self._transaction() as run:
            found = await run(
                """SELECT content FROM news JOIN tasks ON task = seq WHERE id = %(id)s AND number >= %(first)s
                ORDER BY number""",
                id=id,
                first=first,
            )
        return [bytes(content) for (content,) in found]

    async def listen(self, on_change: Callable[[Changed], None]) -> None:
        with as_store_errors("cannot be listened to"):
            async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                on_change(Changed(None, queued=True))  # what was missed before
                async for said in connection.notifies():
                    kind, _, id = said.payload.partition(" ")
                    on_change(Changed(id or None, kind == "queued", kind == "claimed", kind == "ended"))

    async def needed_objects(self, ids: Collection[str]) -> Mapping[str, str]:
        async with self._transaction() as run:
            found = await run(
                """SELECT id, CASE WHEN finished_at IS NULL THEN '' ELSE coalesce(document, 'none') END FROM tasks
                WHERE id = ANY(%(ids)s) AND status <> 'expired'""",
                ids=list(ids),
            )
        return {id: folder(id) + name for id, name in found}


def _encoded(stages: Mapping[str, float], *, waits: bool) -> str:
    return orjson.dumps({"stages": dict(stages), "waits_for_storage": waits}).decode()
