"""What is deleted is gone: from every endpoint and from the disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from diarserve.tasks.store.protocol import NewTask, StoreError
from diarserve.tasks.store.sqlite import SqliteStore
from tests.support.app import (
    API,
    SLOW,
    TRANSCRIBE,
    Client,
    Recording,
    Start,
    error,
    folders,
    form,
    jobs,
    reached,
    service,
    status,
    submit,
)
from tests.support.leftovers import legible
from tests.support.waiting import until

SAID = "w0 w1 w2"  # what the stand-in hears in three seconds
PARROT = {"whisper": {"engine": "tests.support.standins:Parrot"}}
SECRET = "Rumpelstilzchen"


def data_dir(client: Client) -> Path:
    return service(client).settings.data_dir


async def is_unknown(client: Client, id: str) -> None:
    for path in (f"status/{id}", f"result/{id}", f"result/{id}?format=srt", f"events/{id}"):
        assert await error(await client.get(f"{API}/{path}")) == (404, "not_found")
    assert await error(await client.delete(f"{API}/tasks/{id}")) == (404, "not_found")
    listed = await (await client.get(f"{API}/tasks")).json()
    assert id not in {task["task_id"] for task in listed["tasks"]}


async def test_nothing_of_a_deleted_task_is_left(start: Start, recording: Recording) -> None:
    client = await start(**PARROT)
    key = {"Idempotency-Key": "a-key-of-the-client"}
    told = {"prompt": f"{SECRET} in the prompt", "callback_url": "http://127.0.0.1:1/hook-of-the-client"}
    id = await submit(client, recording(3), key, **told)
    await reached(client, id, "completed")
    assert SECRET in (await (await client.get(f"{API}/result/{id}")).json())["text"]
    texts = (SECRET, id, "a-key-of-the-client", "hook-of-the-client", "call 0.wav")
    assert legible(data_dir(client), *texts)
    answer = await client.delete(f"{API}/tasks/{id}")
    assert (answer.status, (await answer.json())["status"]["status"]) == (200, "completed")
    assert legible(data_dir(client), *texts) == []
    await is_unknown(client, id)
    assert folders(client) == set()
    # The key is free again, for any request.
    assert await submit(client, recording(2), key) != id


@pytest.mark.parametrize(("order", "end"), [("refuse whisper", "failed"), ("", "expired")])
async def test_a_task_is_deleted_however_it_ended(start: Start, recording: Recording, order: str, end: str) -> None:
    client = await start()
    id = await submit(client, recording(3, order))
    await reached(client, id, "failed" if order else "completed")
    if end == "expired":
        await service(client).store.expire(older_than=1e12)
        assert legible(data_dir(client), SAID) == []  # what has expired is as gone as what is deleted
    answer = await client.delete(f"{API}/tasks/{id}")
    assert (answer.status, (await answer.json())["status"]["status"]) == (200, end)
    await is_unknown(client, id)


async def test_a_running_task_is_cancelled_and_then_deleted(start: Start, recording: Recording) -> None:
    client = await start(**SLOW)
    id = await submit(client, recording(1000))
    await until(lambda: jobs(client) > 0)
    answer = await client.delete(f"{API}/tasks/{id}")
    assert (answer.status, (await answer.json())["status"]["status"]) == (200, "cancelled")
    assert folders(client) == set()
    assert (await status(client, id))["status"] == "cancelled"
    assert (await client.delete(f"{API}/tasks/{id}")).status == 200
    await is_unknown(client, id)
    assert legible(data_dir(client), id) == []


async def test_a_batch_is_what_is_left_of_it(start: Start, recording: Recording) -> None:
    client = await start()

    async def send() -> list[str]:
        data = form(recording(1), recording(2))
        answer = await client.post(f"{API}/batch/async", data=data, headers={"Idempotency-Key": "b"})
        accepted = await answer.json()
        return [accepted["batch_id"], *(task["task_id"] for task in accepted["tasks"])]

    batch, *ids = await send()
    for id in ids:
        await reached(client, id, "completed")
    await client.delete(f"{API}/tasks/{ids[0]}")
    assert [task["task_id"] for task in (await (await client.get(f"{API}/batches/{batch}")).json())["tasks"]] == ids[1:]
    assert (await send())[0] != batch  # the key stands for two recordings, which are not there any more
    await client.delete(f"{API}/tasks/{ids[1]}")
    assert await error(await client.get(f"{API}/batches/{batch}")) == (404, "not_found")


async def test_who_waits_for_a_task_that_is_deleted_hears_404(start: Start, recording: Recording) -> None:
    client = await start(**SLOW)
    key = {"Idempotency-Key": "k"}
    waiting = asyncio.create_task(client.post(TRANSCRIBE, data=form(recording(500)), headers=key))
    await until(lambda: jobs(client) > 0)
    id = await submit(client, recording(500), key)
    await client.delete(f"{API}/tasks/{id}")
    await client.delete(f"{API}/tasks/{id}")
    assert (await waiting).status in (404, 409)  # 409: it was cancelled and not yet deleted when it was looked for


async def test_deletions_at_the_same_time_share_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await SqliteStore.open(tmp_path / "tasks.db")
    ids = [str(number) for number in range(20)]
    await store.add([NewTask(id, f"{SECRET} {id}", {}, "normal") for id in ids])
    for row in await store.claim({"normal": 20}):
        await store.complete(row.id, 1, SECRET.encode() * 1000, audio_seconds=1, processing_seconds=1)
    checkpoints = []
    execute = store._execute

    async def counted(sql: str, *values: object) -> list[tuple[object, ...]]:
        checkpoints.extend([sql] if "wal_checkpoint" in sql else [])
        return await execute(sql, *values)

    monkeypatch.setattr(store, "_execute", counted)
    assert all(await asyncio.gather(*map(store.delete, ids)))
    assert len(checkpoints) < 20
    assert legible(tmp_path, SECRET) == []
    await store.close()


async def test_a_checkpoint_that_fails_is_made_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await SqliteStore.open(tmp_path / "tasks.db")
    await store.add([NewTask("a", SECRET, {}, "normal")])
    await store.cancel("a")
    execute = store._execute

    async def full(sql: str, *values: object) -> list[tuple[object, ...]]:
        if "wal_checkpoint" in sql:
            raise StoreError("database or disk is full")
        return await execute(sql, *values)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_execute", full)
        assert await store.delete("a")
    assert await store.get("a") is None
    assert legible(tmp_path, SECRET)
    await store.expire(older_than=0)  # the server does so every minute
    assert legible(tmp_path, SECRET) == []
    await store.close()
