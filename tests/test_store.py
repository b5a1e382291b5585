from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from diarserve.core.types import PRIORITIES, STATUSES, Priority
from diarserve.tasks.store import sqlite_schema
from diarserve.tasks.store.protocol import NewTask, QueueFull, Store, StoreError, TaskRow, Totals
from diarserve.tasks.store.sqlite import SqliteStore
from tests.support.paths import REPOSITORY
from tests.support.postgresql import Postgresql

ERROR = {"status": 422, "code": "poison", "message": "No."}
LATER = time.time() + 1e6


@pytest.fixture
async def file_store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "tasks.db")
    yield opened
    await opened.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        opened: Store = await SqliteStore.open(tmp_path / "tasks.db")
    else:
        opened = await postgres(request.getfixturevalue("database"), tmp_path)
    yield opened
    await opened.close()


async def postgres(database: Postgresql, folder: Path) -> Store:
    from diarserve.tasks.store.objects import Objects
    from diarserve.tasks.store.postgres import PostgresStore

    return await PostgresStore.open(database.url, Objects.open(f"file://{folder}/objects"))


async def recover(store: Store, max_attempts: int) -> tuple[list[TaskRow], list[TaskRow]]:
    """As if the server that has claimed tasks were gone."""
    if isinstance(store, SqliteStore):
        return await store.recover(max_attempts)
    async with store._transaction() as run:  # type: ignore[attr-defined]
        await run("DELETE FROM servers")
    recovered: tuple[list[TaskRow], list[TaskRow]] = await store._recover(max_attempts)  # type: ignore[attr-defined]
    return recovered


def new(id: str, priority: Priority = "normal", **more: Any) -> NewTask:
    return NewTask(id, f"{id}.wav", {"language": "en"}, priority, **more)


async def claimed(store: Store, *ids: str, **more: Any) -> None:
    await store.add([new(id, **more) for id in ids])
    assert [row.id for row in await store.claim({"normal": len(ids)})] == list(ids)


async def completed(store: Store, *ids: str, **more: Any) -> None:
    await claimed(store, *ids, **more)
    for id in ids:
        assert await store.complete(id, 1, id.encode(), audio_seconds=10, processing_seconds=2)


async def status(store: Store, id: str) -> str:
    row = await store.get(id)
    assert row is not None
    return row.status


async def test_a_store_is_what_the_protocol_says(store: Store) -> None:
    promised: Store = store  # for mypy
    assert await promised.counts() == dict.fromkeys(
        ("queued", "processing", "completed", "failed", "cancelled", "expired"), 0
    )


async def test_a_task_from_queue_to_result(store: Store) -> None:
    before = time.time()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    [row], created = await store.add([new("a", batch_id="b", position=3, callback_url="https://x", traceparent=trace)])
    assert created
    assert (row.id, row.filename, row.options, row.priority) == ("a", "a.wav", {"language": "en"}, "normal")
    assert (row.batch_id, row.position, row.callback_url, row.traceparent) == ("b", 3, "https://x", trace)
    assert (row.status, row.attempts, row.started_at, row.finished_at, row.error) == ("queued", 0, None, None, None)
    assert before <= row.created_at <= time.time()
    assert await store.get("a") == row
    assert not row.ended

    [taken] = await store.claim({"normal": 5})
    begun = replace(row, started_at=taken.started_at, progress=taken.progress)
    assert taken == replace(begun, status="processing", attempts=1)
    assert taken.started_at is not None
    assert await store.result("a") is None

    assert await store.complete("a", 1, b"{}", audio_seconds=1, processing_seconds=1)
    done = await store.get("a")
    assert done is not None
    assert done.ended
    assert done == replace(taken, status="completed", finished_at=done.finished_at, progress=None)
    assert await store.result("a") == b"{}"


async def test_what_is_unknown_is_none(store: Store) -> None:
    assert await store.get("a") is None
    assert await store.result("a") is None
    assert await store.cancel("a") is None
    assert await store.ahead("a") is None
    assert await store.batch("a") == []


async def test_revisions_are_numbered_and_go_with_the_document(store: Store) -> None:
    assert not await store.revise("a", 1, b"[]")
    await claimed(store, "a")
    assert not await store.revise("a", 1, b"[]")  # it has no document yet
    assert await store.complete("a", 1, b"{}", audio_seconds=1, processing_seconds=1)
    before = time.time()
    assert not await store.revise("a", 2, b"[]")
    assert sum(await asyncio.gather(*(store.revise("a", 1, b"[1]") for _ in range(5)))) == 1
    assert await store.revise("a", 2, b"[2]")
    assert [(one.number, one.changes) for one in await store.revisions("a")] == [(1, b"[1]"), (2, b"[2]")]
    assert all(before - 5 <= one.created_at <= time.time() + 5 for one in await store.revisions("a"))
    assert await store.result("a") == b"{}"
    assert await store.expire(LATER) == ["a"]
    assert await store.revisions("a") == []
    assert not await store.revise("a", 1, b"[]")
    await completed(store, "b")
    assert await store.revise("b", 1, b"[]")
    assert await store.delete("b")
    assert await store.revisions("b") == []


async def test_tasks_are_added_all_or_none(store: Store) -> None:
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.add([new("a"), new("b"), new("a")])
    assert (await store.counts())["queued"] == 0
    await store.add([new("a")])  # and the store goes on


async def test_the_same_key_adds_nothing_again(store: Store) -> None:
    first, created = await store.add([new("a"), new("b")], "key")
    assert created
    [taken] = await store.claim({"normal": 1})
    again, created = await store.add([new("c"), new("d")], "key")
    assert not created
    assert again == [taken, first[1]]
    assert (await store.add([new("e")], "another"))[1]
    assert (await store.add([new("f")]))[1]
    assert (await store.add([new("g")]))[1]
    assert await store.get("c") is None


async def test_an_idempotency_key_is_its_owners(store: Store) -> None:
    [first], _ = await store.add([new("a", owner="one")], "key")
    assert (await store.add([new("b", owner="two")], "key"))[1]
    assert (await store.add([new("c")], "key"))[1]
    assert await store.add([new("d", owner="one")], "key") == ([first], False)
    assert first.owner == "one"


async def test_the_same_key_at_the_same_time_adds_once(store: Store) -> None:
    answers = await asyncio.gather(*(store.add([new(str(number))], "key") for number in range(20)))
    assert sum(created for _, created in answers) == 1
    assert len({rows[0].id for rows, _ in answers}) == 1
    assert (await store.counts())["queued"] == 1


async def test_the_queue_takes_all_of_a_call_or_nothing_of_it(store: Store) -> None:
    await store.add([new("a"), new("b")], "key", max_queued=2)
    with pytest.raises(QueueFull):
        await store.add([new("c")], max_queued=2)
    again, created = await store.add([new("d"), new("e")], "key", max_queued=2)  # what was accepted stays so
    assert ([row.id for row in again], created) == (["a", "b"], False)
    await store.claim({"normal": 1})
    with pytest.raises(QueueFull):
        await store.add([new("f"), new("g")], max_queued=2)
    assert (await store.add([new("h")], max_queued=2))[1]
    assert (await store.counts())["queued"] == 2


async def counted(store: Store) -> dict[str, int]:
    """Row by row."""
    found = Counter(row.status for row in await store.page(limit=100_000))
    return {status: found[status] for status in STATUSES}


async def test_counts_are_those_of_the_rows(store: Store) -> None:
    await completed(store, *(f"done {number}" for number in range(3)))
    await claimed(store, "failed", "released", "recovered", "cancelled")
    await store.fail("failed", 1, ERROR)
    await store.release("released", 1)
    await store.cancel("cancelled")
    assert await store.counts() == await counted(store)
    await recover(store, max_attempts=3)
    assert await store.counts() == await counted(store)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.add([new("rolled back"), new("failed")])
    await store.expire(LATER)
    assert await store.counts() == await counted(store)
    await store.purge(LATER)
    assert await store.counts() == await counted(store) == dict.fromkeys(STATUSES, 0) | {"queued": 2}


async def test_the_oldest_queued_task_of_each_priority_is_known(store: Store) -> None:
    assert (await store.waiting()).oldest_queued == {}
    [first, _], _ = await store.add([new("first"), new("second")])
    [low], _ = await store.add([replace(new("low"), priority="low")])
    assert (await store.waiting()).oldest_queued == {"normal": first.created_at, "low": low.created_at}
    await store.claim({"normal": 2})
    assert (await store.waiting()).oldest_queued == {"low": low.created_at}


async def test_counting_reads_no_tasks(file_store: SqliteStore) -> None:
    async def instructions() -> int:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        await file_store._database.set_progress_handler(step, 1)
        await file_store.counts()
        await file_store.add([new(f"one of {steps}", "low")], max_queued=10_000)
        await file_store._database.set_progress_handler(None, 1)  # type: ignore[arg-type]
        return steps

    few = await instructions()
    await completed(file_store, *map(str, range(500)))
    await file_store.add([new(f"queued {number}") for number in range(500)])
    assert await instructions() < few + 100


async def test_the_tasks_of_an_earlier_version_are_kept_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    database = sqlite3.connect(path)
    columns = """(id, filename, options, priority, position, status, created_at, finished_at, callback_url,
    callback_state, callback_at)"""
    database.executescript(
        f"""{sqlite_schema._MIGRATIONS[0]}
        INSERT INTO tasks {columns} VALUES
        ('a', 'a.wav', '{{}}', 1, 0, 'queued', 1, NULL, NULL, NULL, NULL),
        ('b', 'b.wav', '{{}}', 1, 0, 'completed', 1, 2, 'https://x', 'due', 2);
        PRAGMA user_version = 1;"""
    )
    database.close()
    store = await SqliteStore.open(path)
    assert await store.counts() == dict.fromkeys(STATUSES, 0) | {"queued": 1, "completed": 1}
    [callback] = await store.due_callbacks(LATER, 9, except_origins=["https://y"])
    assert (callback.task.id, callback.origin) == ("b", "https://x")
    await store.close()


async def test_claims_go_by_priority_and_age(store: Store) -> None:
    await store.add([new("n1"), new("h1", "high"), new("n2"), new("l1", "low"), new("n3")])
    assert [row.id for row in await store.claim({"normal": 2})] == ["n1", "n2"]
    assert [row.id for row in await store.claim({"high": 2})] == ["h1"]
    assert await store.claim({"high": 2}) == []
    assert await store.claim({"low": 0}) == []
    assert [row.id for row in await store.claim({"low": 1})] == ["l1"]


async def test_claims_at_the_same_time_never_share_a_task(store: Store) -> None:
    await store.add([new(f"{number:03}") for number in range(100)])
    claims = await asyncio.gather(*(store.claim({"normal": size % 4 + 1}) for size in range(60)))
    assert all(rows == sorted(rows, key=lambda row: row.id) for rows in claims)
    taken = [row.id for rows in claims for row in rows]
    assert sorted(taken) == [f"{number:03}" for number in range(100)]
    assert (await store.counts())["processing"] == 100


async def test_ahead_counts_what_will_be_claimed_before(store: Store) -> None:
    await store.add([new("l1", "low"), new("n1"), new("h1", "high"), new("n2"), new("h2", "high"), new("l2", "low")])
    places = {id: await store.ahead(id) for id in ("h1", "h2", "n1", "n2", "l1", "l2")}
    assert places == {"h1": 0, "h2": 1, "n1": 2, "n2": 3, "l1": 4, "l2": 5}
    order = [row.id for priority in PRIORITIES for row in await store.claim({priority: 9})]
    assert order == list(places)
    assert await store.ahead("h1") is None


async def test_only_the_attempt_under_way_ends_its_task(store: Store) -> None:
    await claimed(store, "a")
    await recover(store, max_attempts=3)
    await store.claim({"normal": 1})
    for stale in (0, 1, 3):
        assert not await store.complete("a", stale, b"stale", audio_seconds=1, processing_seconds=1)
        assert not await store.fail("a", stale, ERROR)
        assert not await store.release("a", stale)
    assert await store.result("a") is None
    assert await store.complete("a", 2, b"right", audio_seconds=1, processing_seconds=1)
    assert not await store.complete("a", 2, b"twice", audio_seconds=1, processing_seconds=1)
    assert not await store.fail("a", 2, ERROR)
    assert await store.result("a") == b"right"
    assert (await store.totals()).completed == 1


async def test_a_queued_task_cannot_be_ended_by_a_worker(store: Store) -> None:
    await store.add([new("a")])
    assert not await store.complete("a", 0, b"", audio_seconds=0, processing_seconds=0)
    assert await status(store, "a") == "queued"


async def test_a_failure_keeps_its_error(store: Store) -> None:
    await claimed(store, "a")
    assert await store.fail("a", 1, ERROR)
    row = await store.get("a")
    assert row is not None
    assert (row.status, row.error, row.ended) == ("failed", ERROR, True)


async def test_a_released_task_is_first_again_with_its_attempt_given_back(store: Store) -> None:
    await claimed(store, "a")
    await store.add([new("b")])
    assert await store.release("a", 1)
    assert await store.ahead("a") == 0
    assert [(row.id, row.attempts) for row in await store.claim({"normal": 2})] == [("a", 1), ("b", 1)]


async def test_cancel_ends_what_has_not_ended(store: Store) -> None:
    await completed(store, "done")
    await claimed(store, "running")
    await store.add([new("waiting")])
    cancelled = [await store.cancel(id) for id in ("done", "running", "waiting")]
    assert [row and row.status for row in cancelled] == ["completed", "cancelled", "cancelled"]
    assert not await store.complete("running", 1, b"", audio_seconds=0, processing_seconds=0)
    assert await store.claim({"normal": 9}) == []
    assert await store.cancel("waiting") == cancelled[2]
    assert await store.totals() == Totals(1, 0, 2, 10, 2)


async def test_pages_go_from_the_newest_back(store: Store) -> None:
    await store.add([new(str(number), batch_id="even" if number % 2 == 0 else None) for number in range(7)])
    await store.claim({"normal": 3})
    assert [row.id for row in await store.page(limit=3)] == ["6", "5", "4"]
    assert [row.id for row in await store.page(limit=3, before="4")] == ["3", "2", "1"]
    assert [row.id for row in await store.page(limit=3, before="1")] == ["0"]
    assert [row.id for row in await store.page(status="processing")] == ["2", "1", "0"]
    assert [row.id for row in await store.page(batch_id="even")] == ["6", "4", "2", "0"]
    assert [row.id for row in await store.page(status="queued", batch_id="even", before="6")] == ["4"]
    assert await store.page(before="unknown") == []


async def test_a_page_goes_on_where_the_one_before_ended_though_that_task_is_deleted(store: Store) -> None:
    await completed(store, "0")
    await completed(store, "1")
    await store.add([new(id, batch_id="b", position=position) for position, id in enumerate("2345")])
    for id in "2345":
        await store.claim({"normal": 1})
        await store.complete(id, 1, b"", audio_seconds=1, processing_seconds=1)
    for last, rest in (("5", "43210"), ("3", "210"), ("2", "10"), ("1", "0"), ("0", "")):
        row = await store.get(last)
        assert row is not None
        assert [row.id for row in await store.page(before=row.cursor)] == [*rest]
        await store.delete(last)
        left = [id for id in rest if await store.get(id)]
        assert [row.id for row in await store.page(before=row.cursor)] == left
    for odd in ("_", "x_y_z", "x_nan_0", "x_1_" + "9" * 30, "_inf_0", "x_1_2_3"):
        assert len(await store.page(before=odd)) <= 1


async def test_pages_and_batches_can_be_of_one_owner(store: Store) -> None:
    await store.add([new(str(number), owner=("", "one", "two")[number % 3], batch_id="b") for number in range(9)])
    assert [row.id for row in await store.page(owner="one")] == ["7", "4", "1"]
    assert [row.id for row in await store.page(owner="one", before="4", batch_id="b")] == ["1"]
    assert await store.page(owner="one", before="8") == []  # another's: no place to go on from
    assert [row.id for row in await store.page(owner="", limit=2)] == ["6", "3"]
    assert {row.id for row in await store.batch("b", owner="two")} == {"2", "5", "8"}
    assert len(await store.page()) == len(await store.batch("b")) == 9


async def test_a_batch_is_in_its_own_order(store: Store) -> None:
    await store.add([new(str(9 - place), batch_id="b", position=place) for place in (2, 0, 1)] + [new("x")])
    assert [row.id for row in await store.batch("b")] == ["9", "8", "7"]


async def test_recovery_queues_again_until_the_attempts_are_used_up(store: Store) -> None:
    await completed(store, "done")
    await claimed(store, "a", callback_url="https://x")
    await store.add([new("b")])
    for attempt in (1, 2):
        again, failed = await recover(store, max_attempts=3)
        assert ([row.id for row in again], failed) == (["a"], [])
        [row] = await store.claim({"normal": 1})
        assert (row.id, row.attempts) == ("a", attempt + 1)
    again, failed = await recover(store, max_attempts=3)
    assert (again, [(row.id, row.status) for row in failed]) == ([], [("a", "failed")])
    assert failed[0].error is not None
    assert (failed[0].error["status"], failed[0].error["code"]) == (500, "crashed")
    assert [callback.task for callback in await store.due_callbacks(LATER, 9)] == failed
    assert await status(store, "done") == "completed"
    assert await status(store, "b") == "queued"


async def test_expired_tasks_lose_their_document_and_are_forgotten_later(store: Store) -> None:
    await completed(store, "old")
    await claimed(store, "bad", "running")
    await store.fail("bad", 1, ERROR)
    await store.add([new("waiting")], "key")
    assert await store.expire(older_than=0) == []
    assert await store.purge(older_than=LATER) == 0
    assert sorted(await store.expire(older_than=LATER)) == ["bad", "old"]
    assert await store.expire(older_than=LATER) == []
    assert await store.result("old") is None
    assert (await store.counts()) == {
        "queued": 1, "processing": 1, "completed": 0, "failed": 0, "cancelled": 0, "expired": 2,
    }  # fmt: skip
    tombstone = await store.get("bad")
    assert tombstone is not None
    assert (tombstone.status, tombstone.error) == ("expired", ERROR)
    assert await store.purge(older_than=0) == 0
    assert await store.purge(older_than=LATER) == 2
    assert await store.get("old") is None
    assert await store.totals() == Totals(1, 1, 0, 10, 2)


async def test_an_ended_task_with_a_callback_is_due_until_it_is_sent_or_given_up(store: Store) -> None:
    await claimed(store, "done", "failed", callback_url="https://x")
    await store.add([new("waiting", callback_url="https://y"), new("quiet")])
    assert await store.due_callbacks(LATER, 9) == []
    await store.complete("done", 1, b"", audio_seconds=0, processing_seconds=0)
    await store.fail("failed", 1, ERROR)
    await store.cancel("waiting")
    await store.cancel("quiet")

    async def due(now: float, limit: int = 9) -> list[tuple[str, int]]:
        return [(callback.task.id, callback.attempts) for callback in await store.due_callbacks(now, limit)]

    assert await due(0) == []
    assert await due(LATER) == [("done", 0), ("failed", 0), ("waiting", 0)]
    assert await due(LATER, 1) == [("done", 0)]
    others = await store.due_callbacks(LATER, 9, except_origins=["https://x"])
    assert [callback.task.id for callback in others] == ["waiting"]
    assert (await store.waiting()).callbacks == 3
    await store.callback_sent("done")
    await store.callback_failed("failed", LATER + 5)
    assert (await store.waiting()).callbacks == 2
    assert await due(LATER) == [("waiting", 0)]
    assert await due(LATER + 5) == [("waiting", 0), ("failed", 1)]
    await store.callback_failed("failed", None)
    await store.callback_sent("waiting")
    assert await due(LATER + 5) == []
    await store.callback_failed("done", LATER)  # late news of what was already sent
    assert await due(LATER) == []


async def test_a_cancelled_caller_leaves_no_half_transaction(store: Store) -> None:
    """Cancelled after each number of turns of the event loop, an add has happened wholly or not at all."""
    for turns in count():
        name = str(turns)
        adding = asyncio.create_task(store.add([new(f"{name}-{number}", batch_id=name) for number in range(3)]))
        for _ in range(turns):
            # To a thread and back: the connection's thread gets on at about the pace that is counted here.
            await asyncio.to_thread(int)
        finished = adding.done()
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        kept = len(await store.batch(name))
        assert kept in (0, 3)
        if finished:
            break
    assert kept == 3


async def test_an_index_that_lacks_rows_is_damage(tmp_path: Path) -> None:
    """With it the server would find a part of the tasks, and remove the recordings of the others."""
    path = tmp_path / "tasks.db"
    store = await SqliteStore.open(path)
    await store.add([new("1"), new("2")])
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA writable_schema = ON")
        file.execute("UPDATE sqlite_schema SET sql = replace(sql, 'status,', 'filename,') WHERE name = 'tasks_queue'")
        file.commit()
    with pytest.raises(StoreError, match="it is damaged, restore it from a copy"):
        await SqliteStore.open(path)


async def test_another_server_cannot_open_the_file(file_store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="database is locked"):
        await SqliteStore.open(tmp_path / "tasks.db", lock_timeout=0)
    await file_store.add([new("a")])


async def test_the_file_is_for_its_owner_only(file_store: SqliteStore, tmp_path: Path) -> None:
    await file_store.add([new("a")])
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


async def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tasks.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        await SqliteStore.open(tmp_path / "tasks.db")
    with pytest.raises(StoreError, match="No such file"):
        await SqliteStore.open(tmp_path / "missing" / "tasks.db")


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    await (await SqliteStore.open(path)).close()
    query(path, "PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer version"):
        await SqliteStore.open(path)
    assert query(path, "PRAGMA user_version") == [(99,)]


async def test_everything_is_there_after_an_orderly_restart(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    first = await SqliteStore.open(path)
    await completed(first, "a")
    await first.add([new("b")], "key")
    kept = await first.page()
    await first.close()
    second = await SqliteStore.open(path)
    assert await second.page() == kept
    assert await second.result("a") == b"a"
    assert not (await second.add([new("c")], "key"))[1]
    await second.close()


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(path)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


async def work(path: Path) -> None:
    """What the killed process does: adds, and works off what it finds, at the same time. It says what was
    acknowledged."""
    store = await SqliteStore.open(path)

    async def accept(client: int) -> None:
        for number in count():
            ids = [f"{client}-{number}-{part}" for part in range(3)]
            await store.add([new(id, callback_url="https://x") for id in ids], ids[0])
            print("added", *ids, flush=True)

    async def transcribe() -> None:
        while True:
            for row in await store.claim({"normal": 2}):
                assert await store.complete(
                    row.id, row.attempts, row.id.encode() * 1000, audio_seconds=1, processing_seconds=1
                )
                print("completed", row.id, flush=True)

    async with asyncio.TaskGroup() as group:
        for client in range(3):
            group.create_task(accept(client))
        group.create_task(transcribe())


def killed_at_work(path: Path, lines: int) -> list[str]:
    """What a process said that was killed after it had said so many lines."""
    code = f"import asyncio, pathlib, tests.test_store as t; asyncio.run(t.work(pathlib.Path({str(path)!r})))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        return said + process.stdout.readlines()


@pytest.mark.parametrize("lines", [1, 10, 60, 150])
async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "tasks.db"
    said = killed_at_work(path, lines + random.randrange(5))
    # A last line cut short was not acknowledged to anybody.
    words = [line.split() for line in said if line.endswith("\n")]
    added = {id for event, *ids in words for id in ids if event == "added"}
    ended = {id for event, *ids in words for id in ids if event == "completed"}

    store = await SqliteStore.open(path)
    rows = {row.id: row for row in await store.page(limit=100_000)}
    assert added <= rows.keys()
    assert len(rows) % 3 == 0
    done = {row.id for row in rows.values() if row.status == "completed"}
    assert ended <= done
    for id in done:
        assert await store.result(id) == id.encode() * 1000
    assert {callback.task.id for callback in await store.due_callbacks(LATER, 100_000)} == done
    assert (await store.totals()).completed == len(done)
    again, failed = await recover(store, max_attempts=2)
    assert {row.id for row in again} == {row.id for row in rows.values() if row.status == "processing"}
    assert failed == []
    assert {row.id for row in await store.claim({"normal": 100_000})} == rows.keys() - done
    await store.close()
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "PRAGMA foreign_key_check") == []
