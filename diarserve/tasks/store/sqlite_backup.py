"""Copies of the SQLite file, made and put back by SQLite's backup API while no server has it open."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from diarserve.tasks.store.protocol import StoreError
from workers.media.private_files import create_private

_PATIENCE = 2.0  # seconds for a server that is just ending


class StoreFile:
    """A store of which this process is the only user."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @property
    def tasks(self) -> int:
        tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'tasks'"
        [there] = self._database.execute(tables).fetchone()
        [tasks] = self._database.execute("SELECT count(*) FROM tasks").fetchone() if there else (0,)
        return int(tasks)

    def copy_to(self, file: Path) -> None:
        create_private(file).close()
        with closing(sqlite3.connect(file)) as target:
            self._database.backup(target)

    def become(self, file: Path) -> None:
        """Hold what the file holds, in one transaction."""
        with closing(_read_only(file)) as source:
            source.backup(self._database)
        # What was replaced is not to stay legible in the write-ahead log.
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@contextmanager
def opened(file: Path) -> Iterator[StoreFile]:
    """Made where it is missing. No server can start on it until the block ends. Raises StoreError."""
    try:
        file.touch(0o600)
        with closing(sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None)) as database:
            for pragma in ("locking_mode = EXCLUSIVE", "synchronous = FULL"):
                database.execute(f"PRAGMA {pragma}").fetchall()
            database.execute("BEGIN IMMEDIATE")  # which takes the lock, and keeps it
            database.execute("COMMIT")
            yield StoreFile(database)
    except sqlite3.Error as error:
        hint = "; a server uses it" if "locked" in str(error) else ""
        raise StoreError(f"The task store {file} cannot be used: {error}{hint}") from error


def unfinished(file: Path) -> list[str]:
    """Ids of the tasks in a copy that have not ended: the server that restores it goes on with them."""
    with closing(_read_only(file)) as database:
        return [id for (id,) in database.execute("SELECT id FROM tasks WHERE finished_at IS NULL ORDER BY seq")]


def check(file: Path) -> None:
    """Raises StoreError for a copy that is damaged."""
    try:
        with closing(_read_only(file)) as database:
            [found] = database.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"The task store in the backup cannot be read: {error}") from error
    if found != "ok":
        raise StoreError(f"The task store in the backup is damaged: {found}")


def _read_only(file: Path) -> sqlite3.Connection:
    """Of a file that nobody changes: no write-ahead log is made beside it."""
    return sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True)
