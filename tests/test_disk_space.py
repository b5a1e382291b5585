"""Room on the disk, where others write at the same time."""

from __future__ import annotations

import asyncio
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from diarserve.core.errors import StorageFull
from diarserve.tasks.disk_space import DiskSpace, decoded_bound
from tests.support.app import TRANSCRIBE, Recording, Start, error, form, service, spool

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskSpace:
    """100 bytes, 10 of which are left alone."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100, 0, 100))
    return DiskSpace(tmp_path, keep_free=10)


def test_what_is_promised_is_not_promised_twice(disk: DiskSpace) -> None:
    with disk.reserved(60):
        with pytest.raises(StorageFull), disk.reserved(31):
            pass
        with disk.reserved(30):
            assert disk.promised == 90
    with disk.reserved(90):
        pass
    assert disk.promised == 0


async def test_a_conversion_waits_for_another_and_is_refused_where_it_fits_alone_nowhere(disk: DiskSpace) -> None:
    order = []

    async def convert(name: str, size: int) -> None:
        async with disk.reserved_for_conversion(size):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    await asyncio.gather(convert("a", 60), convert("b", 60))
    assert order == ["a begins", "a ends", "b begins", "b ends"]
    with pytest.raises(StorageFull):
        await convert("c", 91)
    assert disk.promised == 0


def test_a_decoded_recording_has_a_bound() -> None:
    assert decoded_bound(32_000, 6 * 3600.0) == 32_000 * 64
    assert decoded_bound(10**9, 60.0) == 60 * 64_000


async def test_uploads_at_the_same_time_do_not_overshoot(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has room for three of the four, whatever was free when each of them began."""
    client = await start(limits={"min_free_mib": 0}, whisper={"step_seconds": 0.01})
    data = recording(4 * 2**20 // 32_000)
    capacity, peaks = 3 * len(data) + 2**20, [0]

    def usage(path: object) -> Usage:
        used = sum(file.stat().st_size for folder in spool(client) for file in folder.glob("upload"))
        peaks.append(used)
        return Usage(capacity, used, capacity - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr("diarserve.service.stages.decoded_bound", lambda upload, seconds: 0)
    answers = await asyncio.gather(*(client.post(TRANSCRIBE, data=form(data)) for _ in range(4)))
    refused = [answer for answer in answers if answer.status != 200]
    assert [await error(answer) for answer in refused] == [(507, "storage_full")] * len(refused)
    assert refused
    assert max(peaks) <= capacity
    assert service(client).spool.disk.promised == 0
    assert spool(client) == []


async def test_what_would_not_fit_when_decoded_is_refused(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start(limits={"min_free_mib": 0})
    data = recording(2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(len(data) * 100, 0, len(data) * 10))
    assert await error(await client.post(TRANSCRIBE, data=form(data))) == (507, "storage_full")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(len(data) * 100, 0, len(data) * 65))
    assert (await client.post(TRANSCRIBE, data=form(data))).status == 200
    assert spool(client) == []
