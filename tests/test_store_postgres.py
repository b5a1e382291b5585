"""What only a store that several servers share must do. What every store must: tests/test_store.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from diarserve.tasks.store.protocol import Changed, NewTask, Report, StoreError, StoreUnreachable, TaskProgress
from tests.support.postgresql import Postgresql
from tests.support.waiting import until

if TYPE_CHECKING:
    from diarserve.tasks.store.postgres import PostgresStore

LATER = time.time() + 1e6
HALF = TaskProgress({"transcribe": 0.5})

Open = Callable[..., Awaitable["PostgresStore"]]


@pytest.fixture
async def server(database: Postgresql, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the store as one more server."""
    from diarserve.tasks.store.objects import Objects
    from diarserve.tasks.store.postgres import PostgresStore

    opened: list[PostgresStore] = []

    async def open(lease_seconds: float = 30.0) -> PostgresStore:
        opened.append(await PostgresStore.open(database.url, Objects.open(f"file://{tmp_path}/objects"), lease_seconds))
        return opened[-1]

    yield open
    for store in opened:
        await store.close()


def new(id: str, **more: str) -> NewTask:
    return NewTask(id, f"{id}.wav", {}, "normal", **more)  # type: ignore[arg-type]


async def test_servers_that_start_at_the_same_time_make_the_tables_once(server: Open) -> None:
    one, *others = await asyncio.gather(*(server() for _ in range(4)))
    await one.add([new("a")])
    assert [row.id for row in await others[0].page()] == ["a"]


async def test_a_newer_schema_is_refused_and_a_wrong_url_is_not_shown(server: Open, database: Postgresql) -> None:
    from diarserve.tasks.store.postgres import PostgresStore

    await server()
    database.run("UPDATE schema_version SET version = 99")
    with pytest.raises(StoreError, match="newer version"):
        await server()
    for url in ("postgresql://x:s3cret@127.0.0.1:1/db", "postgresql://x:s3cret@:port/", "s3cret"):
        with pytest.raises(StoreError) as error:
            await PostgresStore.open(url, None)  # type: ignore[arg-type]
        assert "s3cret" not in f"{error.value} {error.value.__cause__}"


async def test_two_servers_never_claim_the_same(server: Open) -> None:
    one, two = await server(), await server()
    await one.add([new(f"{number:03}") for number in range(60)])
    claims = await asyncio.gather(*((one, two)[number % 2].claim({"normal": 3}) for number in range(40)))
    taken = [row.id for rows in claims for row in rows]
    assert sorted(taken) == [f"{number:03}" for number in range(60)]


async def test_the_same_key_at_two_servers_adds_once(server: Open) -> None:
    stores = [await server(), await server()]
    answers = await asyncio.gather(*(stores[n % 2].add([new(str(n), owner="me")], "key") for n in range(16)))
    assert sum(created for _, created in answers) == 1
    assert len({rows[0].id for rows, _ in answers}) == 1


async def test_only_the_server_that_claimed_a_task_ends_it(server: Open) -> None:
    one, two = await server(), await server()
    await one.add([new("a")])
    await one.claim({"normal": 1})
    assert not await two.complete("a", 1, b"two", audio_seconds=1, processing_seconds=1)
    assert not await two.release("a", 1)
    assert await one.complete("a", 1, b"one", audio_seconds=1, processing_seconds=1)
    assert await two.result("a") == b"one"


async def test_a_lease_that_ended_gives_the_tasks_to_others_and_its_server_learns_it(
    server: Open, database: Postgresql, tmp_path: Path
) -> None:
    one, two = await server(), await server(lease_seconds=0.0)
    await one.add([new("a"), new("b")])
    await one.claim({"normal": 1})
    await one.renew({})
    await two.renew({})
    assert await two.recover(3) == ([], [])  # one's lease holds
    database.lapse()
    assert [row.id for row in (await two.recover(3))[0]] == ["a"]
    assert [row.id for row in await two.claim({"normal": 9})] == ["a", "b"]
    assert set(await one.renew({"a": 1})) == {"a"}
    assert set(await two.renew({"a": 2, "b": 1})) == set()
    assert not await one.complete("a", 1, b"late", audio_seconds=1, processing_seconds=1)
    assert await two.complete("a", 2, b"{}", audio_seconds=1, processing_seconds=1)
    kept = [path.read_bytes() for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    assert kept == [b"{}"]  # what came too late is gone


async def test_after_a_gap_of_its_own_a_server_takes_nothing_from_others_yet(
    server: Open, database: Postgresql
) -> None:
    one, two = await server(), await server()
    await one.add([new("a")])
    await one.claim({"normal": 1})
    database.lapse()  # as when the database was away for longer than a lease
    await two.renew({})
    assert await two.recover(3) == ([], [])
    assert set(await one.renew({"a": 1})) == set()


async def test_a_server_that_closes_leaves_no_lease(server: Open, database: Postgresql) -> None:
    one, two = await server(), await server(lease_seconds=0.0)
    await one.add([new("a")])
    await one.claim({"normal": 1})
    await one.close()
    await two.renew({})
    again, failed = await two.recover(1)
    assert (again, [row.id for row in failed]) == ([], ["a"])


async def test_a_callback_is_taken_by_one_server_and_comes_back_where_that_one_dies(server: Open) -> None:
    one, two = await server(), await server()
    await one.add([new("a", callback_url="https://x")])
    await one.cancel("a")
    assert [len(await store.due_callbacks(LATER, 9)) for store in (one, two)] == [1, 1]
    taken = await asyncio.gather(*(store.take_callbacks(["a"], LATER) for store in (one, two, one, two)))
    assert sorted(map(len, taken)) == [0, 0, 0, 1]
    assert await two.due_callbacks(LATER - 1, 9) == []
    assert len(await two.due_callbacks(LATER, 9)) == 1
    await one.callback_sent("a")
    assert await two.due_callbacks(LATER + 1, 9) == []


async def test_others_read_how_a_task_goes_and_are_told_when(server: Open) -> None:
    one, two = await server(), await server()
    heard: list[Changed] = []
    listening = asyncio.create_task(two.listen(heard.append))
    await until(lambda: heard)
    await one.add([new("a")])
    await one.claim({"normal": 1})
    await one.report([Report("a", 1, HALF, 0, [b"w0", b"w1"]), Report("b", 1, HALF, 0, [])])
    await one.report([Report("a", 1, HALF, 1, [b"again", b"w2"])])  # what is there already stays
    await until(lambda: Changed("a") in heard)
    assert heard[1:3] == [Changed("a", queued=True), Changed("a", claimed=True)]
    row = await two.get("a")
    assert row is not None
    assert row.progress == HALF
    assert (await two.news("a"), await two.news("a", 2)) == ([b"w0", b"w1", b"w2"], [b"w2"])
    await two.report([Report("a", 1, TaskProgress({}), 3, [b"not its own"])])
    assert len(await two.news("a")) == 3
    heard.clear()
    await one.complete("a", 1, b"{}", audio_seconds=1, processing_seconds=1)
    await until(lambda: Changed("a", ended=True) in heard)
    assert len(await two.news("a")) == 3  # for those who watch it there
    await two.delete("a")
    assert await two.news("a") == []
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_what_the_clients_text_has_no_place_for_is_replaced(server: Open) -> None:
    store = await server()
    [row], _ = await store.add([NewTask("a", "c\0ll\ud800.wav", {"prompt": "\0"}, "normal")])
    assert (row.filename, row.options) == ("c\ufffdll?.wav", {"prompt": "\0"})
    assert await store.get("\0") is None
    assert await store.page(before="\0", batch_id="\ud800") == []


async def test_an_end_that_was_committed_unheard_is_known_when_it_is_tried_again(
    server: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await server()
    await store.add([new("a"), new("b")])
    await store.claim({"normal": 2})
    transaction = store._transaction

    @asynccontextmanager
    async def unheard() -> AsyncIterator[Any]:
        async with transaction() as run:
            yield run
        raise StoreUnreachable("the connection was lost at the commit")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_transaction", unheard)
        with pytest.raises(StoreUnreachable):
            await store.complete("a", 1, b"said", audio_seconds=1, processing_seconds=1)
        with pytest.raises(StoreUnreachable):
            await store.fail("b", 1, {"status": 500, "code": "internal", "message": "No."})
    assert await store.complete("a", 1, b"said", audio_seconds=1, processing_seconds=1)
    assert await store.fail("b", 1, {"status": 500, "code": "internal", "message": "No."})
    assert await store.result("a") == b"said"
    totals = await store.totals()
    assert (totals.completed, totals.failed) == (1, 1)


async def test_connections_that_were_cut_are_made_again(server: Open, database: Postgresql) -> None:
    store = await server()
    heard: list[Changed] = []
    listening = asyncio.create_task(store.listen(heard.append))
    await until(lambda: heard)
    await store.add([new("a")])
    database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'diarserve'")
    with pytest.raises(StoreUnreachable):
        await listening
    assert await store.get("a") is not None


async def test_ended_tasks_need_no_objects_once_they_have_expired(server: Open, tmp_path: Path) -> None:
    store = await server()
    await store.add([new("kept"), new("old")])
    await store.claim({"normal": 2})
    await store.complete("old", 1, b"{}", audio_seconds=1, processing_seconds=1)
    asked = ["kept", "old", "unknown"]
    needed = await store.needed_objects(asked)
    assert needed.keys() == {"kept", "old"}
    assert needed["kept"] == "tasks/kept/"
    assert needed["old"].startswith("tasks/old/document-1-")
    await store.expire(LATER)
    assert await store.needed_objects(asked) == {"kept": "tasks/kept/"}
    assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []


async def test_no_row_is_locked_while_the_object_store_is_slow_or_fails(
    server: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await server(), await server()
    await one.add([new("deleted"), new("old"), new("older")])
    await one.claim({"normal": 3})
    for id in ("deleted", "old", "older"):
        await one.complete(id, 1, b"{}", audio_seconds=1, processing_seconds=1)
    asked: list[str] = []

    async def fails(*names: str) -> None:
        async with two._transaction() as run:
            await run("SELECT FROM tasks FOR UPDATE NOWAIT")
        asked.extend(names)
        raise StoreUnreachable("it is down")

    with monkeypatch.context() as patch:
        patch.setattr(one._objects, "remove", fails)
        for change in (lambda: one.delete("deleted"), lambda: one.expire(LATER)):
            with pytest.raises(StoreUnreachable):
                await change()
    assert sorted(asked) == ["tasks/deleted/", "tasks/old/", "tasks/older/"]
    assert await one.result("deleted") is None
    assert await one.needed_objects(["deleted", "old", "older"]) == {}  # what is left of them goes by its age
    deleted = await one.delete("deleted")
    assert deleted is not None
    assert await one.get("deleted") is None
    assert not [found.key async for found in one._objects.under("tasks/deleted/")]


async def test_thousands_of_tasks_expire_in_transactions_of_a_few(
    server: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await server()
    monkeypatch.setattr("diarserve.tasks.store.postgres._IN_A_TRANSACTION", 2)
    await store.add([new(f"{number}") for number in range(5)])
    await store.claim({"normal": 5})
    for number in range(5):
        await store.fail(f"{number}", 1, {"status": 500, "code": "internal", "message": "no"})
    assert sorted(await store.expire(LATER)) == ["0", "1", "2", "3", "4"]
    assert await store.expire(LATER) == []


async def test_a_server_that_vanishes_in_the_middle_of_a_change_holds_nobody_up(
    server: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diarserve.tasks.store.postgres_connection._IDLE", 0.1)
    one, two = await server(), await server()
    await one.add([new("a")])

    async def vanish() -> None:
        async with one._transaction() as run:
            await run("SELECT FROM tasks FOR UPDATE")
            cancelled = await two.cancel("a")  # waits for the row until the database gives up the first
            assert cancelled is not None
            assert cancelled.status == "cancelled"
            await run("SELECT")

    with pytest.raises(StoreUnreachable):
        await vanish()
    assert await one.get("a") is not None
