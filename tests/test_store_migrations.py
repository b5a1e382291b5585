"""A store that an earlier version left is opened, brought up to date, and worked on."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from diarserve.tasks.store.protocol import NewTask, StoreError, Totals
from diarserve.tasks.store.sqlite import SqliteStore
from tests.support.paths import REPOSITORY

FIRST = REPOSITORY / "tests" / "support" / "stores" / "0.1.0.sql"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The file of 0.1.0's store."""
    file = tmp_path / "tasks.sqlite"
    with closing(sqlite3.connect(file)) as database:
        database.executescript(FIRST.read_text())
    return file


def schema(file: Path) -> set[tuple[str, str]]:
    """Names of tables, indexes and triggers with what they are made of. Tables as their columns: one that was altered
    has another text than one that was made so."""
    with closing(sqlite3.connect(file)) as database:
        rows = database.execute("SELECT type, name, ifnull(sql, '') FROM sqlite_schema").fetchall()
        return {
            (name, repr(database.execute(f"PRAGMA table_info({name})").fetchall()) if type == "table" else sql)
            for type, name, sql in rows
        }


async def test_a_store_of_0_1_0_is_as_one_that_was_made_today(old: Path, tmp_path: Path) -> None:
    await (await SqliteStore.open(old)).close()
    await (await SqliteStore.open(tmp_path / "new.sqlite")).close()
    assert schema(old) == schema(tmp_path / "new.sqlite")


async def test_a_store_of_0_1_0_keeps_its_tasks_and_goes_on(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = await SqliteStore.open(old)
    try:
        assert "schema 1 to" in caplog.text
        assert await store.counts() == {
            "queued": 2,
            "processing": 1,
            "completed": 1,
            "failed": 1,
            "cancelled": 1,
            "expired": 1,
        }
        assert await store.totals() == Totals(2, 1, 1, audio_seconds=31.0, processing_seconds=2.5)
        assert await store.result("completed") == b'{"text": "Hello."}'
        failed = await store.get("failed")
        assert failed
        assert failed.error
        assert failed.error["code"] == "undecodable"
        # As every start does.
        requeued, given_up = await store.recover(3)
        assert ([row.id for row in requeued], given_up) == (["processing"], [])
        [due] = await store.due_callbacks(1_790_000_200.0, 10)
        assert (due.task.id, due.origin, due.attempts) == ("completed", "https://example.org:8443", 1)
        await store.callback_sent("completed")
        assert [row.id for row in await store.batch("batch")] == ["queued-1", "queued-2"]
        # Nobody had a key: the tasks are the administrator's, and an Idempotency-Key finds them.
        assert {row.owner for row in await store.page()} == {""}
        sent_again = NewTask("again", "queued-1.wav", {}, "low")
        again, created = await store.add([sent_again], "a key")
        assert ([row.id for row in again], created) == (["queued-1", "queued-2"], False)
        [row] = await store.claim({"normal": 10})
        assert await store.complete(row.id, row.attempts, b"{}", audio_seconds=1.0, processing_seconds=1.0)
        assert (await store.counts())["completed"] == 2
        assert await store.delete("completed")
    finally:
        await store.close()


async def test_a_migration_that_fails_changes_nothing(old: Path) -> None:
    with closing(sqlite3.connect(old)) as database:
        database.execute("CREATE TABLE counts (status TEXT)")  # which the third migration makes
    with pytest.raises(StoreError, match="counts already exists"):
        await SqliteStore.open(old)
    with closing(sqlite3.connect(old)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)  # the second went through, wholly
        assert database.execute("SELECT count(*) FROM tasks WHERE callback_origin IS NULL").fetchone() == (7,)
        database.execute("DROP TABLE counts")
    store = await SqliteStore.open(old)
    assert (await store.counts())["queued"] == 2
    await store.close()
