"""A server that is drained for maintenance: no new work, and what is under way ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.support.app import API, TRANSCRIBE, Client, Recording, Start, error, form, reached, status, submit
from tests.support.waiting import until

DRAIN = f"{API}/drain"


async def state(client: Client, method: str = "GET") -> dict[str, Any]:
    answer = await client.request(method, DRAIN)
    assert answer.status == 200
    shown: dict[str, Any] = await answer.json()
    return shown


async def test_what_is_under_way_ends_and_what_waits_is_kept(
    start: Start, recording: Recording, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    client = await start(whisper={"gate": str(gate)}, limits={"running": 1})
    working = await submit(client, recording(1))
    await reached(client, working, "processing")
    queued = await submit(client, recording(1))
    waiting = asyncio.create_task(client.post(TRANSCRIBE, data=form(recording(1))))
    await until(lambda: _requests(client, 1))
    assert await state(client, "POST") == {
        "draining": True,
        "requests": 1,
        "live_sessions": 0,
        "tasks": 1,
        "queued": 1,
    }
    ready = await client.get("/readyz")
    assert ready.status == 503
    assert set((await ready.json())["lanes"].values()) == {"the server is drained for maintenance"}
    for path in (TRANSCRIBE, f"{TRANSCRIBE}/async", f"{API}/batch", "/v1/audio/transcriptions", "/v1/listen"):
        assert await error(await client.post(path, data=form(recording(1)))) == (503, "not_ready")
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    live = await client.get(f"{API}/stream", headers=upgrade | {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="})
    assert live.status == 503
    gate.unlink()
    assert (await waiting).status == 200
    await reached(client, working, "completed")
    await until(lambda: _idle(client))
    # Looking, cancelling and backing up go on; the queued task is for the next server, or for later.
    assert (await status(client, queued))["status"] == "queued"
    assert (await client.get(f"{API}/result/{working}")).status == 200
    assert (await client.delete(f"{API}/tasks/{working}")).status == 200
    assert (await client.post(f"{API}/backup")).status == 200

    assert (await state(client, "DELETE"))["draining"] is False
    assert (await client.get("/readyz")).status == 200
    await reached(client, queued, "completed")
    assert (await client.post(TRANSCRIBE, data=form(recording(1)))).status == 200


async def _requests(client: Client, number: int) -> bool:
    return bool((await state(client))["requests"] == number)


async def _idle(client: Client) -> bool:
    now = await state(client)
    return not (now["requests"] or now["tasks"] or now["live_sessions"])
