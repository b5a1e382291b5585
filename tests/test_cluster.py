"""Two servers behind a client that asks them in turn: it never sees a difference."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientResponse

from diarserve.tasks.recordings import SharedRecordings
from diarserve.tasks.store.protocol import StoreUnreachable
from tests.support import cluster_storm, s3
from tests.support.app import API, ENDED, TRANSCRIBE, Client, Recording, Start, error, form, jobs, service, spool
from tests.support.callbacks import receiving
from tests.support.postgresql import Postgresql
from tests.support.s3 import S3
from tests.support.waiting import until, wait_until

if TYPE_CHECKING:
    from diarserve.tasks.store.objects import Objects

KEY = {"Idempotency-Key": "once"}


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3]:
    with s3.running() as started:
        yield started


@dataclass
class Pair:
    servers: list[Client]
    gate: Path  # no step of a stand-in ends while it is there
    _turn: Any = field(init=False)

    def __post_init__(self) -> None:
        self._turn = cycle(self.servers)

    async def ask(self, method: str, path: str, **more: Any) -> ClientResponse:
        """The servers in turn."""
        answer: ClientResponse = await next(self._turn).request(method, path, **more)
        return answer

    async def submit(self, data: bytes, headers: dict[str, str] | None = None, **fields: str) -> str:
        answer = await self.ask("POST", f"{TRANSCRIBE}/async", data=form(data, **fields), headers=headers)
        assert answer.status == 202, await answer.text()
        id: str = (await answer.json())["task_id"]
        return id

    async def status(self, id: str) -> dict[str, Any]:
        answer = await self.ask("GET", f"{API}/status/{id}")
        assert answer.status == 200
        shown: dict[str, Any] = (await answer.json())["status"]
        return shown

    async def polled(self, id: str) -> list[dict[str, Any]]:
        """All statuses until it has ended, and one more of each server."""
        seen = [await self.status(id)]
        while seen[-1]["status"] not in ENDED:
            await asyncio.sleep(0.01)
            seen.append(await self.status(id))
        return [*seen, await self.status(id), await self.status(id)]

    async def running(self, id: str) -> tuple[Client, Client]:
        """The server that runs the task, and the other."""
        found: list[Client] = []

        def runs() -> bool:
            found[:] = [one for one in self.servers if any(t["task_id"] == id for t in service(one).tasks.active())]
            return bool(found)

        await until(runs)
        [other] = [one for one in self.servers if one is not found[0]]
        return found[0], other


@pytest.fixture
async def pair(start: Start, database: Postgresql, bucket: S3, tmp_path: Path) -> AsyncIterator[Pair]:
    gate = tmp_path / "gate"
    store = {"url": database.url, "objects": f"{bucket.url}/{tmp_path.name}", "lease_seconds": 1.0}
    sections = {
        "use_process_pool": False,
        "store": store,
        "webhooks": {"allow_private": True},
        "whisper": {"gate": str(gate)},
    }
    yield Pair([await start(data_dir=tmp_path / f"data {name}", **sections) for name in "ab"], gate)
    gate.unlink(missing_ok=True)


def bucket_of(client: Client) -> Objects:
    from diarserve.tasks.store.postgres import PostgresStore

    store = service(client).store
    assert isinstance(store, PostgresStore)
    return store._objects


async def objects(pair: Pair) -> list[str]:
    return [found.key async for found in bucket_of(pair.servers[0]).under("tasks/")]


async def _has_objects(pair: Pair, count: int) -> bool:
    """A task's recording goes after its end is told."""
    return len(await objects(pair)) == count


async def events(client: Client, id: str) -> list[tuple[str, Any]]:
    answer = await client.get(f"{API}/events/{id}")
    told = []
    for event in (await answer.text()).split("\n\n"):
        lines = dict(line.partition(": ")[::2] for line in event.splitlines())
        if "event" in lines:
            told.append((lines["event"], json.loads(lines["data"])))
    return told


async def test_a_client_that_asks_both_in_turn_sees_one_server(pair: Pair, recording: Recording) -> None:
    with receiving() as callbacks:
        ids = [await pair.submit(recording(3), callback_url=callbacks.url) for _ in range(12)]
        for seen in await asyncio.gather(*map(pair.polled, ids)):
            order = ("queued", "processing", "completed")
            assert [order.index(one["status"]) for one in seen] == sorted(order.index(one["status"]) for one in seen)
            assert [one["progress"] for one in seen] == sorted(one["progress"] for one in seen)
            assert seen[-1] == seen[-2]
            assert seen[-1]["attempts"] == 1
        for id in ids:
            answers = [await (await pair.ask("GET", f"{API}/result/{id}")).json() for _ in pair.servers]
            assert answers[0] == answers[1]
            assert answers[0]["text"] == "w0 w1 w2"
        listed = [await (await pair.ask("GET", f"{API}/tasks")).json() for _ in pair.servers]
        assert listed[0] == listed[1]
        assert [task["task_id"] for task in listed[0]["tasks"]] == ids[::-1]
        await until(lambda: len(callbacks.bodies) == len(ids))
    assert {len(bodies) for bodies in callbacks.bodies.values()} == {1}  # each is called once
    await until(lambda: not spool(pair.servers[0]) + spool(pair.servers[1]))
    await until(lambda: _has_objects(pair, len(ids)))
    assert {key.rpartition("/")[2].partition("-")[0] for key in await objects(pair)} == {"document"}
    for id in ids:
        assert (await pair.ask("DELETE", f"{API}/tasks/{id}")).status == 200
        assert [(await pair.ask("GET", f"{API}/status/{id}")).status for _ in pair.servers] == [404, 404]
    await until(lambda: _has_objects(pair, 0))


async def test_events_of_a_task_that_another_server_runs(pair: Pair, recording: Recording) -> None:
    pair.gate.touch()
    id = await pair.submit(recording(4))
    owner, other = await pair.running(id)
    watching = [asyncio.create_task(events(one, id)) for one in (owner, other)]
    await until(lambda: service(other).tasks.find(id))
    pair.gate.unlink()
    told = [await one for one in watching]
    late = await events(other, id)
    for seen in told:
        assert seen[-1] == late[-1] == ("done", await pair.status(id))
        said = [data["text"] for kind, data in seen if kind == "segment"]
        assert " ".join(said) == "w0 w1 w2 w3"


async def test_a_task_is_cancelled_by_a_server_that_does_not_run_it(pair: Pair, recording: Recording) -> None:
    pair.gate.touch()
    id = await pair.submit(recording(3))
    owner, other = await pair.running(id)
    waiting = asyncio.create_task(events(owner, id))
    await until(lambda: jobs(owner))
    answer = await other.delete(f"{API}/tasks/{id}")
    assert (await answer.json())["status"]["status"] == "cancelled"
    pair.gate.unlink()
    await until(lambda: not jobs(owner) and not spool(owner))
    assert (await waiting)[-1][1]["status"] == "cancelled"
    await until(lambda: _has_objects(pair, 0))
    assert (await pair.status(id))["attempts"] == 1


async def test_an_idempotency_key_is_good_at_every_server(pair: Pair, recording: Recording) -> None:
    data = recording(2)
    asked = [pair.ask("POST", TRANSCRIBE, data=form(data), headers=KEY) for _ in range(4)]
    bodies = [await answer.json() for answer in await asyncio.gather(*asked)]
    assert all(body == bodies[0] for body in bodies)
    assert await pair.submit(data, KEY) == bodies[0]["task_id"]
    assert (await (await pair.ask("GET", "/stats")).json())["store"]["ever_completed"] == 1
    refused = await pair.ask("POST", TRANSCRIBE, data=form(recording(3)), headers=KEY)
    assert await error(refused) == (422, "idempotency_key_reused")


async def test_a_server_that_stops_gives_its_tasks_to_the_other(pair: Pair, recording: Recording) -> None:
    pair.gate.touch()
    id = await pair.submit(recording(3))
    owner, other = await pair.running(id)
    watching = asyncio.create_task(events(other, id))
    await until(lambda: service(other).tasks.find(id))
    await service(owner).stop()
    pair.gate.unlink()
    told = await watching
    assert told[-1] == ("done", await _of(other, id))
    assert told[-1][1]["attempts"] == 1  # an orderly stop counts none
    assert " ".join(data["text"] for kind, data in told if kind == "segment") == "w0 w1 w2"


async def _of(client: Client, id: str) -> dict[str, Any]:
    shown: dict[str, Any] = (await (await client.get(f"{API}/status/{id}")).json())["status"]
    return shown


async def test_a_server_that_was_taken_for_dead_ends_nothing(
    pair: Pair, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.gate.touch()
    id = await pair.submit(recording(3))
    owner, other = await pair.running(id)

    def cut_off(**_: object) -> None:
        raise StoreUnreachable("no route to the database")

    with monkeypatch.context() as patch:
        for statements in ("_transaction", "_once"):
            patch.setattr(service(owner).store, statements, cut_off)
        patch.setattr("diarserve.tasks.completion.PAUSE", 0.05)
        await until(lambda: any(task["task_id"] == id for task in service(other).tasks.active()))
        assert (await owner.get("/readyz")).status == 503  # a load balancer asks another
        pair.gate.unlink()
        await until(lambda: _ended(other, id))
    await until(lambda: not service(owner).tasks.active() and not spool(owner))
    shown = await pair.polled(id)
    assert (shown[-1]["status"], shown[-1]["attempts"]) == ("completed", 2)
    assert (await (await pair.ask("GET", "/stats")).json())["store"]["ever_completed"] == 1
    await until(lambda: _ready(owner))
    await until(lambda: _has_objects(pair, 1))


async def test_connections_to_the_database_that_break_cost_no_attempt(
    pair: Pair, recording: Recording, database: Postgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diarserve.tasks.completion.PAUSE", 0.05)
    pair.gate.touch()
    ids = [await pair.submit(recording(2)) for _ in range(6)]
    await pair.running(ids[0])
    database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'diarserve'")
    pair.gate.unlink()
    for id in ids:
        ended = (await pair.polled(id))[-1]
        assert (ended["status"], ended["attempts"]) == ("completed", 1)


async def test_without_the_object_store_nothing_is_accepted_and_what_was_waits(
    pair: Pair, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diarserve.tasks.completion.PAUSE", 0.05)

    async def away(*_: object) -> None:
        raise StoreUnreachable("The object store fails: no route to it")

    with monkeypatch.context() as patch:
        for one in pair.servers:
            patch.setattr(bucket_of(one), "put_file", away)
        refused = await pair.ask("POST", f"{TRANSCRIBE}/async", data=form(recording(1)))
        assert await error(refused) == (503, "not_ready")
    assert (await (await pair.ask("GET", f"{API}/tasks")).json())["tasks"] == []
    with monkeypatch.context() as patch:
        tried: list[object] = []

        async def gone(*asked: object) -> None:
            tried.append(asked)
            await away()

        for one in pair.servers:
            patch.setattr(bucket_of(one), "fetch", gone)
        id = await pair.submit(recording(1))
        await until(lambda: len(tried) > 2)
    ended = (await pair.polled(id))[-1]
    assert (ended["status"], ended["attempts"]) == ("completed", 1)
    await until(lambda: not spool(pair.servers[0]) + spool(pair.servers[1]))


async def test_what_a_crash_left_in_the_object_store_is_removed_by_age(pair: Pair, recording: Recording) -> None:
    id = await pair.submit(recording(1))
    await pair.polled(id)

    await until(lambda: _has_objects(pair, 1))
    [document] = await objects(pair)
    pair.gate.touch()
    running = await pair.submit(recording(2))
    owner, _ = await pair.running(running)
    recordings = service(owner).backlog._recordings
    assert isinstance(recordings, SharedRecordings)
    kept = {document, f"tasks/{running}/sent/upload"}
    for left in ("unknown/sent/upload", f"{id}/sent/upload", f"{id}/document-9-late"):
        await recordings._objects.put(f"tasks/{left}", b"what was said")
    await recordings.remove_unused(datetime.now(UTC) - timedelta(hours=1))
    assert len(await objects(pair)) == 5
    await recordings.remove_unused(datetime.now(UTC) + timedelta(hours=1))
    assert set(await objects(pair)) == kept


async def _ended(client: Client, id: str) -> bool:
    return (await _of(client, id))["status"] in ENDED


async def _ready(client: Client) -> bool:
    return (await client.get("/readyz")).status == 200


def test_tasks_of_a_server_that_is_killed_end_once(database: Postgresql, bucket: S3) -> None:
    """Small; `make storm-cluster` does more of it."""

    def harm(members: list[cluster_storm.Member], outcome: cluster_storm.Outcome) -> bool:
        if outcome.done["killed"] or not outcome.accepted:
            return not outcome.done["killed"]
        victim = members[0]

        def works() -> bool:
            assert victim.server
            return bool(victim.server.get("/stats")["active_tasks"])

        wait_until(works)
        outcome.orphans += victim.kill()
        outcome.done["killed"] += 1
        return False

    outcome = cluster_storm.play(12, harm, database, bucket)
    assert (outcome.wrong, outcome.orphans) == ([], 0)
    assert (outcome.right, outcome.lost, outcome.doubled) == (12, 0, 0)
    assert outcome.attempts > 12
