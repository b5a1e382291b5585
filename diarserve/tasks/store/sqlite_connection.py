"""Statements and transactions on the one connection to the SQLite file."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiosqlite

from diarserve.tasks.store.protocol import StoreError
from workers.media.private_files import create_private

log = logging.getLogger(__name__)


class SqliteConnection:
    def __init__(self, database: aiosqlite.Connection) -> None:
        self._database = database
        self._lock = asyncio.Lock()  # one connection sees its own unfinished transactions: reads wait too
        self._deletions = 0  # transactions that deleted something
        self._erased = 0  # how many of them are out of the write-ahead log too

    async def close(self) -> None:
        async with self._lock:
            await self._database.close()

    async def backup(self, file: Path) -> None:
        """Write a copy of everything, as it is at one moment, by SQLite's backup API. Other calls wait meanwhile, 0.6 s
        for 210 MB on a busy machine. Raises StoreError. Not to be cancelled: the copy would go on in its thread."""
        async with self._lock:
            try:
                create_private(file).close()
                with closing(sqlite3.connect(file, check_same_thread=False)) as target:
                    await self._database.backup(target)
            except (OSError, sqlite3.Error) as error:
                raise StoreError(f"The task store cannot be copied to {file}: {error}") from error

    async def _execute(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return [tuple(row) for row in await self._database.execute_fetchall(sql, values)]
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError):
                raise  # a mistake of ours; else a full or failing disk, or a damaged file
            raise StoreError(f"The task store cannot be used: {error}") from error

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        async with self._lock:
            try:
                await self._execute("BEGIN IMMEDIATE")
                yield
                await self._execute("COMMIT")
            except BaseException:
                # Also where the coroutine was cancelled: the connection's thread takes one call after the other, so
                # what was under way ends first, and the next transaction begins after this.
                await self._database.rollback()
                raise

    async def _erase(self) -> None:
        """Take what was deleted out of the write-ahead log, which otherwise holds its pages until about 4 MB more are
        written. One call serves all deletions that were committed while it waited for its turn. On a full disk it is
        put off to the next call."""
        async with self._lock:
            if self._erased == self._deletions:
                return
            deletions = self._deletions
            try:
                await self._execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except StoreError as error:
                log.warning("what was deleted stays in the write-ahead log for now: %s", error)
            else:
                self._erased = deletions
