"""Folders of recordings: whose they are, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from diarserve.spool import Spool


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


def test_a_finished_tasks_folder_serves_the_next_empty(spool: Spool) -> None:
    first = used(spool, "first")
    inode = first.stat().st_ino
    spool.remove(first, reuse=True)
    assert not first.exists()
    assert spool.size() == 0
    second = spool.new("second")
    assert second.stat().st_ino == inode
    assert list(second.iterdir()) == []
    assert [folder.name for folder in spool.incoming.iterdir()] == ["second"]
    spool.remove(first, reuse=True)  # once more, as the request's end does
    assert second.exists()


def test_a_cancelled_tasks_folder_serves_nobody(spool: Spool) -> None:
    first = used(spool, "first")
    spool.remove(first)
    assert not first.exists()
    assert spool._spare == []


def test_what_was_kept_for_reuse_may_be_gone(spool: Spool) -> None:
    spool.remove(used(spool, "first"), reuse=True)
    Path(spool._spare[0]).rmdir()
    assert list(spool.new("second").iterdir()) == []


def test_not_every_folder_is_kept(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diarserve.spool._SPARE", 1)
    for folder in [used(spool, id) for id in ("first", "second")]:
        spool.remove(folder, reuse=True)
    assert len(spool._spare) == 1
    assert list(spool.incoming.iterdir()) == []
