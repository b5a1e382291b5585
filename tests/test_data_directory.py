"""The data directory is for the server's user alone, whatever the umask."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from diarserve.tasks import data_directory
from tests.support.app import TRANSCRIBE, Client, Recording, Start, form, reached, service, submit
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def readable_by_others(folder: Path) -> dict[str, str]:
    """Paths and their modes."""
    modes = {path: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
    return {str(path): f"{mode:03o}" for path, mode in modes.items() if mode & 0o077}


def data_dir(client: Client) -> Path:
    return service(client).settings.data_dir


async def test_nobody_else_reads_what_a_request_and_a_task_leave(
    start: Start, recording: Recording, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    client = await start(whisper={"gate": str(gate)})
    folder = data_dir(client)
    id = await submit(client, recording(2))
    waiting = asyncio.create_task(client.post(TRANSCRIBE, data=form(recording(2))))
    # Both are being worked on: upload and decoded audio are there, with what the stand-ins write.
    await until(lambda: len(list(folder.glob("*/*/audio.f32"))) == 2)
    await until(lambda: len(list(folder.glob("*/*/embedded-steps"))) == 2)
    assert readable_by_others(folder) == {}
    gate.unlink()
    await reached(client, id, "completed")
    assert (await waiting).status == 200
    assert readable_by_others(folder) == {}
    assert (folder.stat().st_mode & 0o777, (folder / "tasks.sqlite").stat().st_mode & 0o777) == (0o700, 0o600)


async def test_a_directory_that_was_open_is_closed_with_one_line_of_the_log(
    start: Start, recording: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start()
    folder = data_dir(client)
    await reached(client, await submit(client, recording(1)), "completed")
    await client.close()
    (folder / "tasks" / "kept").mkdir()
    (folder / "tasks" / "kept" / "upload").touch()
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    theirs = folder / "lost+found"
    theirs.mkdir(0o755)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "diarserve.tasks.data_directory"):
        data_directory.prepare(folder)
        assert readable_by_others(folder) == {str(theirs): "755"}  # what is not the server's is left alone
        data_directory.prepare(folder)
    assert len([record for record in caplog.records if "mode 755" in record.message]) == 1


def test_a_directory_that_many_share_is_not_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "tasks.sqlite").touch(0o644)
    data_directory.prepare(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "tasks.sqlite").stat().st_mode & 0o777 == 0o600
