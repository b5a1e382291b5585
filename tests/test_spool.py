"""Folders of recordings: whose they are, and when."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
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
    monkeypatch.setattr("diarserve.tasks.spool._MOST_SPARE", 1)
    for folder in [used(spool, id) for id in ("first", "second")]:
        await recycled(spool, folder)
    assert len(spool._spare) == 1
    assert list(spool.incoming.iterdir()) == []


def test_the_size_is_read_while_tasks_end(spool: Spool) -> None:
    """Folders are made and removed beside, as often as it takes for scans to meet one that vanishes."""
    used(spool, "stays")
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            shutil.rmtree(used(spool, "goes"))

    beside = threading.Thread(target=come_and_go)
    beside.start()
    try:
        sizes = [spool.size() for _ in range(1000)]
    finally:
        stop.set()
        beside.join()
    assert all(size >= spool.size() == 2 * len(b"of stays") for size in sizes)


def test_a_folder_that_vanishes_during_the_scan_has_no_size(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    used(spool, "stays")
    goes = used(spool, "goes")
    scandir = os.scandir

    def scan_too_late(path: os.PathLike[str]) -> object:
        if os.fspath(path) == os.fspath(goes):
            goes.rename(spool.incoming.parent / "elsewhere")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan_too_late)
    assert spool.size() == 2 * len(b"of stays")
    assert not goes.exists()
