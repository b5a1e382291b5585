"""The SQLite file: opened for this process alone, and brought up to date."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import suppress
from pathlib import Path

import aiosqlite

from diarserve.tasks.store.protocol import StoreError

log = logging.getLogger(__name__)

_PRAGMAS = (
    # SQLite 3.40 can corrupt a WAL that several connections write. So nobody else gets in, another server least of all.
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = FULL",  # a commit is on the disk when it returns
    "foreign_keys = ON",
    "secure_delete = ON",  # what was said does not stay legible in free pages
)

# Applied in order, each in a transaction of its own; PRAGMA user_version counts those that were.
_MIGRATIONS = (
    """
    CREATE TABLE tasks (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, -- order of acceptance
        id TEXT NOT NULL UNIQUE,
        filename TEXT NOT NULL,
        options TEXT NOT NULL, -- JSON
        priority INTEGER NOT NULL, -- index in PRIORITIES
        batch_id TEXT,
        position INTEGER NOT NULL,
        idempotency_key TEXT,
        status TEXT NOT NULL DEFAULT 'queued',
        created_at REAL NOT NULL,
        started_at REAL,
        finished_at REAL,
        attempts INTEGER NOT NULL DEFAULT 0,
        error TEXT, -- JSON
        callback_url TEXT,
        callback_state TEXT, -- due, sent, given up
        callback_at REAL,
        callback_attempts INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX tasks_queue ON tasks (status, priority, seq);
    CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX tasks_batch ON tasks (batch_id, position) WHERE batch_id IS NOT NULL;
    CREATE INDEX tasks_key ON tasks (idempotency_key) WHERE idempotency_key IS NOT NULL;
    CREATE INDEX tasks_callback ON tasks (callback_at) WHERE callback_state = 'due';
    CREATE TABLE documents (
        task INTEGER PRIMARY KEY REFERENCES tasks (seq) ON DELETE CASCADE,
        document BLOB NOT NULL
    );
    CREATE TABLE totals (
        status TEXT PRIMARY KEY,
        tasks INTEGER NOT NULL,
        audio_seconds REAL NOT NULL,
        processing_seconds REAL NOT NULL
    );
    """,
    """
    ALTER TABLE tasks ADD COLUMN callback_origin TEXT; -- scheme, host and port; NULL in rows of an earlier version
    DROP INDEX tasks_callback;
    CREATE INDEX tasks_callback ON tasks (callback_at, callback_origin) WHERE callback_state = 'due';
    """,
    # Counted as they change: to count 300,000 rows takes 14 ms, and every submission and scrape asks.
    """
    CREATE TABLE counts (status TEXT PRIMARY KEY, tasks INTEGER NOT NULL);
    INSERT INTO counts SELECT status, count(*) FROM tasks GROUP BY status;
    CREATE TRIGGER tasks_counted_in AFTER INSERT ON tasks BEGIN
        INSERT INTO counts VALUES (NEW.status, 1) ON CONFLICT DO UPDATE SET tasks = tasks + 1;
    END;
    CREATE TRIGGER tasks_counted_on AFTER UPDATE OF status ON tasks WHEN NEW.status <> OLD.status BEGIN
        UPDATE counts SET tasks = tasks - 1 WHERE status = OLD.status;
        INSERT INTO counts VALUES (NEW.status, 1) ON CONFLICT DO UPDATE SET tasks = tasks + 1;
    END;
    CREATE TRIGGER tasks_counted_out AFTER DELETE ON tasks BEGIN
        UPDATE counts SET tasks = tasks - 1 WHERE status = OLD.status;
    END;
    """,
    """
    ALTER TABLE tasks ADD COLUMN owner TEXT NOT NULL DEFAULT ''; -- id of an access key; '' without one
    CREATE INDEX tasks_owner ON tasks (owner, seq);
    """,
    """
    ALTER TABLE tasks ADD COLUMN upload_sha256 BLOB; -- NULL without an idempotency_key
    """,
    """
    CREATE TABLE revisions (
        task INTEGER NOT NULL REFERENCES documents (task) ON DELETE CASCADE,
        number INTEGER NOT NULL, -- from 1
        created_at REAL NOT NULL,
        changes BLOB NOT NULL, -- JSON
        PRIMARY KEY (task, number)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE tasks ADD COLUMN traceparent TEXT NOT NULL DEFAULT ''; -- W3C Trace Context; '' where traces are off
    """,
)
VERSION = len(_MIGRATIONS)  # of the schema that this version writes


async def connect(path: Path, lock_timeout: float) -> aiosqlite.Connection:
    """lock_timeout: seconds for an earlier server to let the file go. Raises StoreError."""
    try:
        # Made before it is opened, for its mode, and because aiosqlite lets go of its thread untidily where it cannot.
        await asyncio.to_thread(path.touch, 0o600)
        database = await aiosqlite.connect(path, timeout=lock_timeout, isolation_level=None)
        try:
            for pragma in _PRAGMAS:
                await database.execute_fetchall(f"PRAGMA {pragma}")
            await _check(database)
            await _migrate(database)
            with suppress(sqlite3.OperationalError):  # a full disk is no reason not to open
                # What a server that was killed had deleted goes from the write-ahead log too.
                await database.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        except BaseException:
            await database.close()
            raise
    except (OSError, sqlite3.Error) as error:
        hint = "; is another server using it?" if "locked" in str(error) else ""
        raise StoreError(f"The task store {path} cannot be opened: {error}{hint}") from error
    return database


async def _check(database: aiosqlite.Connection) -> None:
    """Raises sqlite3.DatabaseError for a damaged file. A server that worked with it would remove the recordings of
    tasks that it no longer finds, or find a part of them, where an index lacks rows. Of 40,000 tasks in 200 MB it takes
    0.2 s (without the indexes, by quick_check, 0.12 s)."""
    [[found]] = await database.execute_fetchall("PRAGMA integrity_check(1)")
    if found != "ok":
        raise sqlite3.DatabaseError(f"it is damaged, restore it from a copy ({found})")


async def _migrate(database: aiosqlite.Connection) -> None:
    [[version]] = await database.execute_fetchall("PRAGMA user_version")
    if version > VERSION:
        raise StoreError(f"The task store was written by a newer version: schema {version}, not {VERSION}.")
    for number, script in enumerate(_MIGRATIONS[version:], version + 1):
        await database.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
    if 0 < version < VERSION:
        log.info("the task store was brought from schema %d to %d; earlier versions refuse it now", version, VERSION)
