"""Folders of recordings: whose they are, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from diarserve.tasks.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path)
    made.prepare()
    return made


def used(spool: Spool, id: str) -> Path:
    folder = spool.new(id)
    for name in ("upload", "audio.f32"):
        (folder / name).write_bytes(b"of " + id.encode())
    return folder


async def recycled(spool: Spool, folder: Path) -> None:
    spool.recycle(folder)
    await asyncio.sleep(0)


async def test_a_finished_tasks_folder_serves_the_next_empty(spool: Spool) -> None:
    first = used(spool, "first")
    inode = first.stat().st_ino
    await recycled(spool, first)
    assert not first.exists()
    assert spool.size() == 0
    second = spool.new("second")
    assert second.stat().st_ino == inode
    assert list(second.iterdir()) == []
    assert [folder.name for folder in spool.incoming.iterdir()] == ["second"]
    await recycled(spool, first)  # once more, as the request's end does
    assert second.exists()


def test_a_cancelled_tasks_folder_serves_nobody(spool: Spool) -> None:
    first = used(spool, "first")
    spool.remove(first)
    assert not first.exists()
    assert spool._spare == []


async def test_what_was_kept_for_reuse_may_be_gone(spool: Spool) -> None:
    await recycled(spool, used(spool, "first"))
    Path(spool._spare[0]).rmdir()
    assert list(spool.new("second").iterdir()) == []


async def test_not_every_folder_is_kept(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diarserve.tasks.spool._SPARE", 1)
    for folder in [used(spool, id) for id in ("first", "second")]:
        await recycled(spool, folder)
    assert len(spool._spare) == 1
    assert list(spool.incoming.iterdir()) == []
