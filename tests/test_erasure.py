"""What belongs to a revoked access key can be deleted, and nothing of it is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from diarserve.access import key_file
from diarserve.access.keys import id_of
from diarserve.cli.main import main
from diarserve.core.types import Role
from tests.support.app import API, TRANSCRIBE, Client, Recording, Start, error, folders, form, jobs, wav
from tests.support.leftovers import legible
from tests.support.voices import KEY, speaking
from tests.support.waiting import until

SECRET = "Rumpelstilzchen"
KEPT = {
    "voices": {"enabled": True, "key": KEY},
    "whisper": {"engine": "tests.support.standins:Parrot", "step_seconds": 0.05},
}


def made(data: Path, name: str, role: Role = "submit", **more: Any) -> tuple[str, dict[str, str]]:
    """A new key's id, and the headers of its requests."""
    key, secret = key_file.add(data / "keys.json", name, role, **more)
    return id_of(key), {"X-API-Key": secret}


async def submitted(client: Client, key: dict[str, str], data: bytes, **fields: str) -> str:
    answer = await client.post(f"{TRANSCRIBE}/async", data=form(data, **fields), headers=key)
    assert answer.status == 202, await answer.text()
    id: str = (await answer.json())["task_id"]
    return id


async def completed(client: Client, id: str, key: dict[str, str]) -> None:
    async def is_completed() -> bool:
        answer = await client.get(f"{API}/status/{id}", headers=key)
        return bool((await answer.json())["status"]["status"] == "completed")

    await until(is_completed)


async def enrolled(client: Client, key: dict[str, str], name: str) -> None:
    sample = form(speaking("0,1"))
    sample.add_field("name", name)
    assert (await client.post(f"{API}/voices", data=sample, headers=key)).status == 201


async def test_revoking_deletes_what_the_key_has_where_that_is_asked(
    start: Start, recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    (_, root), (app_id, app), (_, other) = made(data, "root", "admin"), made(data, "app"), made(data, "other")
    client = await start(**KEPT)
    ended = await submitted(client, app | {"Idempotency-Key": "k-of-app"}, recording(3), prompt=SECRET)
    await completed(client, ended, root)
    theirs = await submitted(client, other, recording(2))
    await completed(client, theirs, root)
    running = await submitted(client, app, recording(1000))
    await until(lambda: jobs(client) > 0)
    await enrolled(client, app, "Ann")
    await enrolled(client, other, "Bo")
    assert legible(data, SECRET, ended, running, "k-of-app", app_id)
    answer = await client.delete(f"{API}/keys/{app_id}/data", headers=root)
    assert await error(answer) == (409, "key_in_use")

    uploading, revoked = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield wav(2)[:100]
        uploading.set()
        await revoked.wait()
        yield wav(2)[100:]

    late = asyncio.create_task(
        client.post(f"{TRANSCRIBE}/async", data=slowly(), headers=app | {"Content-Type": "audio/wav"})
    )
    await uploading.wait()
    command = ["keys", "revoke", "app", "--delete-data", "--data-dir", str(data)]
    command += ["--server", str(client.make_url("/")).rstrip("/"), "--api-key", root["X-API-Key"]]
    assert await asyncio.to_thread(main, command) == 0
    assert f"Of key {app_id}, 2 tasks and 1 voices are deleted." in capsys.readouterr().err
    revoked.set()
    assert await error(await late) == (401, "unauthorized")  # sent before, and not kept
    kept = (SECRET, ended, running, "k-of-app", app_id)
    await until(lambda: {path.name for path in legible(data, *kept)} <= {"keys.json"})  # the trash is emptied soon
    assert folders(client) == set()
    assert len(list((data / "voices").iterdir())) == 1
    listed = await (await client.get(f"{API}/voices", headers=other)).json()
    assert [voice["name"] for voice in listed["voices"]] == ["Bo"]
    assert (await client.get(f"{API}/result/{theirs}", headers=other)).status == 200
    assert await asyncio.to_thread(main, command) == 0  # of a key that is revoked already
    assert "0 tasks and 0 voices" in capsys.readouterr().err


async def test_what_another_key_shares_is_not_deleted(
    start: Start, recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    (_, root), (old_id, old) = made(data, "root", "admin"), made(data, "old")
    _, new = made(data, "new", tasks_of="old")
    client = await start()
    id = await submitted(client, old, recording(1))
    await completed(client, id, root)
    where = ["--data-dir", str(data), "--server", str(client.make_url("/")).rstrip("/")]
    deleting = ["--delete-data", *where, "--api-key", root["X-API-Key"]]
    assert await asyncio.to_thread(main, ["keys", "revoke", "old", *deleting]) == 1
    assert "Keys in use have these tasks and voices: new." in capsys.readouterr().err
    assert (await client.get(f"{API}/result/{id}", headers=new)).status == 200
    assert await asyncio.to_thread(main, ["keys", "revoke", "new", *deleting]) == 0
    assert "nothing is deleted" in capsys.readouterr().err
    assert await error(await client.delete(f"{API}/keys/{old_id[:-1]}/data", headers=root)) == (404, "not_found")
    assert await asyncio.to_thread(main, ["keys", "revoke", "old", *deleting]) == 0
    await until(lambda: legible(data, id) == [])
    assert await asyncio.to_thread(main, ["keys", "revoke", "nobody", *deleting]) == 2
