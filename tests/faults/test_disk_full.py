"""A disk that is full, for real: a small tmpfs under the data directory."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from diarserve.tasks.store.protocol import NewTask
from diarserve.tasks.store.sqlite import SqliteStore
from tests.support.app import API, TRANSCRIBE, Client, Recording, Start, error, folders, form, reached, status, submit
from tests.support.waiting import until

MIB = 2**20
SIZE = 48 * MIB
RESERVE = 4 * MIB
LIMITS = {"min_free_mib": 0, "reserve_mib": RESERVE // MIB}
DECODER = {"engine": "decoder"}


def telephone(seconds: int) -> bytes:
    """A WAV file of 16-bit mono at 8 kHz, which takes four times its size when decoded."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(os.urandom(16_000 * seconds))
    return written.getvalue()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def free(disk: Path) -> int:
    return shutil.disk_usage(disk).free


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill the disk but for so many bytes; the file that does."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, free(disk) - leave)
    return filler


@pytest.fixture
def unreserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others take what was reserved for decoding: it finds no room although there was some."""
    monkeypatch.setattr("diarserve.service.stages.decoded_bound", lambda upload, seconds: 0)
    monkeypatch.setattr("diarserve.tasks.completion.PAUSE", 0.01)


@pytest.mark.usefixtures("unreserved")
async def test_who_waits_is_answered_507_and_nothing_is_left(start: Start, disk: Path) -> None:
    client = await start(data_dir=disk / "data", limits=LIMITS, decode=DECODER)
    fill(disk, leave=2 * MIB)
    before = free(disk)
    answer = await client.post(TRANSCRIBE, data=form(telephone(60)))  # 1 MB, and decoded 4 MB
    assert await error(answer) == (507, "storage_full")
    assert "Retry-After" in answer.headers
    assert folders(client) == set()
    assert free(disk) >= before - 64 * 1024  # the folder itself


@pytest.mark.usefixtures("unreserved")
async def test_a_task_waits_says_so_and_is_done_when_there_is_room(start: Start, disk: Path) -> None:
    client = await start(data_dir=disk / "data", limits=LIMITS, decode=DECODER)
    filler = fill(disk, leave=2 * MIB)
    id = await submit(client, telephone(60))
    await until(lambda: waits_for_storage(client, id))
    filler.unlink()
    shown = await reached(client, id, "completed")
    assert (shown["attempts"], shown["stage"]) == (1, "completed")
    assert folders(client) == set()


@pytest.mark.usefixtures("unreserved")
async def test_a_task_that_has_waited_long_enough_fails_with_the_reason(start: Start, disk: Path) -> None:
    limits = {**LIMITS, "storage_wait_hours": 0.1 / 3600}
    client = await start(data_dir=disk / "data", limits=limits, decode=DECODER)
    fill(disk, leave=2 * MIB)
    id = await submit(client, telephone(60))
    shown = await reached(client, id, "failed")
    assert (shown["error_code"], shown["attempts"]) == ("storage_full", 1)
    assert await error(await client.get(f"{API}/result/{id}")) == (507, "storage_full")
    assert folders(client) == set()


async def test_what_an_empty_disk_could_not_take_fails_at_once(start: Start, disk: Path) -> None:
    client = await start(data_dir=disk / "data", limits=LIMITS, decode=DECODER)
    id = await submit(client, telephone(60))  # 1 MB of the densest recording would be 61 MB
    shown = await reached(client, id, "failed")
    assert (shown["error_code"], shown["attempts"]) == ("storage_full", 1)
    answer = await client.post(TRANSCRIBE, data=form(telephone(60)))
    assert await error(answer) == (507, "storage_full")
    assert "Retry-After" not in answer.headers  # waiting is of no use
    assert folders(client) == set()


async def waits_for_storage(client: Client, id: str) -> bool:
    shown = await status(client, id)
    return (shown["status"], shown["stage"]) == ("processing", "waiting_for_storage")


async def completed(client: Client, count: int, data: bytes) -> list[str]:
    ids = [await submit(client, data) for _ in range(count)]
    for id in ids:
        await reached(client, id, "completed")
    return ids


async def test_what_is_there_can_be_read_and_deleted(start: Start, disk: Path, recording: Recording) -> None:
    client = await start(data_dir=disk / "data", limits=LIMITS)
    gone, stays = await completed(client, 2, recording(3))
    fill(disk)
    assert free(disk) == 0
    assert await error(await client.post(TRANSCRIBE, data=form(recording(3)))) == (507, "storage_full")
    for id in (gone, stays):
        assert (await client.get(f"{API}/result/{id}")).status == 200
    assert (await client.delete(f"{API}/tasks/{gone}")).status == 200
    assert await error(await client.get(f"{API}/status/{gone}")) == (404, "not_found")
    assert (await status(client, stays))["status"] == "completed"
    assert (await client.delete(f"{API}/tasks/{stays}")).status == 200
    assert (await (await client.get(f"{API}/tasks")).json())["tasks"] == []
    assert (disk / "data" / "reserve").stat().st_size >= RESERVE / 4  # for the next deletion


async def test_a_task_that_waits_for_room_can_be_deleted(start: Start, disk: Path, unreserved: None) -> None:
    client = await start(data_dir=disk / "data", limits=LIMITS, decode=DECODER)
    filler = fill(disk, leave=2 * MIB)
    id = await submit(client, telephone(60))
    await until(lambda: waits_for_storage(client, id))
    with filler.open("ab") as file:
        os.posix_fallocate(file.fileno(), filler.stat().st_size, free(disk))
    answer = await client.delete(f"{API}/tasks/{id}")
    assert (answer.status, (await answer.json())["status"]["status"]) == (200, "cancelled")
    assert folders(client) == set()
    assert free(disk) > MIB / 2  # the upload's


async def interrupted(data: Path) -> None:
    """What a server leaves that was killed: a task with its result, one that was being worked on, one whose folder
    was still being received, and one that was removed half."""
    data.mkdir()
    store = await SqliteStore.open(data / "tasks.sqlite")
    await store.add([NewTask(id, f"{id}.wav", {}, "normal") for id in ("done", "running")])
    await store.claim({"normal": 2})
    await store.complete("done", 1, b'{"text": "said"}', audio_seconds=1, processing_seconds=1)
    await store.close()
    for folder in ("tasks/running", "tasks/done", "spool/received", "trash/removed"):
        (data / folder).mkdir(parents=True)
        for name in ("upload", "audio.f32"):
            (data / folder / name).write_bytes(bytes(MIB // 2))


async def is_served(client: Client) -> None:
    assert (await client.get("/livez")).status == 200
    assert await (await client.get(f"{API}/result/done")).text() == '{"text": "said"}'
    assert (await client.delete(f"{API}/tasks/done")).status == 200
    assert await error(await client.get(f"{API}/result/done")) == (404, "not_found")


async def test_the_start_frees_what_no_task_needs(start: Start, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diarserve.tasks.completion.PAUSE", 0.01)
    await interrupted(disk / "data")
    filler = fill(disk)
    client = await start(wait=False, data_dir=disk / "data", limits=LIMITS)
    await is_served(client)
    assert sorted(path.name for path in disk.glob("data/*/*")) == ["running"]
    filler.unlink()
    await reached(client, "running", "completed")


async def test_a_server_starts_where_nothing_can_be_freed_and_goes_on_when_there_is_room(
    start: Start, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diarserve.tasks.completion.PAUSE", 0.01)
    await interrupted(disk / "data")
    for folder in ("tasks/done", "spool", "trash"):
        shutil.rmtree(disk / "data" / folder)
    (disk / "data" / "tasks" / "running" / "audio.f32").unlink()
    filler = fill(disk)
    client = await start(data_dir=disk / "data", limits=LIMITS)
    assert await (await client.get(f"{API}/result/done")).text() == '{"text": "said"}'
    assert (await status(client, "running"))["status"] == "processing"  # as the earlier server left it
    filler.unlink()
    await reached(client, "running", "completed")
    await is_served(client)
