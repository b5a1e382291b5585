"""Revisions of documents in PostgreSQL."""

from __future__ import annotations

from diarserve.tasks.store.postgres_tasks import NOW, PostgresTasks
from diarserve.tasks.store.protocol import Revision


class PostgresRevisions(PostgresTasks):
    async def revise(self, id: str, number: int, changes: bytes) -> bool:
        async with self._transaction() as run:
            # One after the other: the second of two with the same number finds the first one's.
            task = await run("SELECT seq FROM tasks WHERE id = %(id)s AND document IS NOT NULL FOR UPDATE", id=id)
            made = await run(
                f"""INSERT INTO revisions
                SELECT seq, %(number)s, {NOW}, %(changes)s FROM unnest(%(task)s::bigint[]) AS seq
                WHERE %(number)s = (SELECT count(*) + 1 FROM revisions WHERE task = seq) RETURNING number""",
                number=number,
                changes=changes,
                task=[seq for (seq,) in task],
            )
        return bool(made)

    async def revisions(self, id: str) -> list[Revision]:
        async with self._transaction() as run:
            rows = await run(
                """SELECT number, revisions.created_at, changes FROM revisions JOIN tasks ON task = seq
                WHERE id = %(id)s ORDER BY number""",
                id=id,
            )
        return [Revision(number, created_at, bytes(changes)) for number, created_at, changes in rows]
