"""Revisions of documents in the SQLite file."""

from __future__ import annotations

import time

from diarserve.tasks.store.protocol import Revision
from diarserve.tasks.store.sqlite_connection import SqliteConnection


class SqliteRevisions(SqliteConnection):
    async def revise(self, id: str, number: int, changes: bytes) -> bool:
        async with self._transaction():
            return bool(
                await self._execute(
                    """INSERT INTO revisions SELECT seq, ?, ?, ? FROM tasks JOIN documents ON task = seq WHERE id = ?
                    AND ? = (SELECT count(*) + 1 FROM revisions WHERE task = seq) RETURNING number""",
                    number,
                    time.time(),
                    changes,
                    id,
                    number,
                )
            )

    async def revisions(self, id: str) -> list[Revision]:
        async with self._lock:
            rows = await self._execute(
                """SELECT number, revisions.created_at, changes FROM revisions JOIN tasks ON task = seq WHERE id = ?
                ORDER BY number""",
                id,
            )
        return [Revision(*row) for row in rows]
