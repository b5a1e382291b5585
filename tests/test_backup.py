"""Backups of a server that works, what restoring one brings back, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import io
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from diarserve.access import key_file
from diarserve.core.settings import Settings
from diarserve.core.task_settings import Store
from diarserve.tasks.backup import without_server
from diarserve.tasks.backup_archive import BackupError, check, chunks, size
from diarserve.tasks.restore import Restored, restore
from diarserve.tasks.spool import Spool
from diarserve.tasks.store import sqlite_backup
from diarserve.tasks.store.protocol import StoreError
from tests.support.app import (
    API,
    Client,
    Recording,
    Start,
    document,
    form,
    reached,
    service,
    stand_ins,
    store,
    submit,
    wav,
)
from tests.support.waiting import until

BACKUP = f"{API}/backup"


async def taken(client: Client, file: Path) -> Path:
    answer = await client.post(BACKUP)
    assert answer.status == 200, await answer.text()
    assert answer.content_type == "application/x-tar"
    body = await answer.read()
    assert answer.content_length == len(body)
    file.write_bytes(body)
    return file


def other(tmp_path: Path) -> Settings:
    """A machine that has nothing."""
    return stand_ins(tmp_path / "other")


async def test_a_backup_of_a_working_server_becomes_a_server_that_goes_on(
    start: Start, recording: Recording, tmp_path: Path
) -> None:
    """A completed task, one that is worked on and one that waits, when the backup is made; the first server's own
    tasks go on meanwhile."""
    gate = tmp_path / "gate"
    client = await start(whisper={"gate": str(gate)}, limits={"running": 1})
    data = service(client).settings.data_dir
    done = await submit(client, recording(1))
    before = await reached(client, done, "completed")
    gate.touch()
    working = await submit(client, recording(2))
    await reached(client, working, "processing")
    waiting = await submit(client, recording(3), language="en")
    file = await taken(client, tmp_path / "backup.tar")
    await until(lambda: not (data / "backup").exists())
    gate.unlink()
    for id in (working, waiting):
        await reached(client, id, "completed")
    assert list((data / "tasks").iterdir()) == []

    settings = other(tmp_path)
    restored = await asyncio.to_thread(restore, file, settings)
    assert (restored.tasks, restored.unfinished, restored.voices, restored.keys) == (3, 2, 0, False)
    assert {path.stat().st_mode & 0o077 for path in settings.data_dir.rglob("*")} == {0}
    again = await start(data_dir=settings.data_dir)
    assert await reached(again, done, "completed") == before
    assert (await again.get(f"{API}/result/{done}")).status == 200
    for id in (working, waiting):
        assert (await reached(again, id, "completed"))["attempts"] >= 1


async def test_tar_and_sha256sum_read_a_backup(start: Start, recording: Recording, tmp_path: Path) -> None:
    client = await start()
    await submit(client, recording(1))
    file = await taken(client, tmp_path / "backup.tar")
    for command in (["tar", "-xf", str(file)], ["sha256sum", "--check", "--strict", "SHA256SUMS"]):
        await asyncio.to_thread(subprocess.run, command, check=True, cwd=tmp_path)
    with closing(sqlite3.connect(tmp_path / "tasks.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM tasks").fetchone() == (1,)


async def test_a_task_that_ends_while_a_backup_is_made_is_in_it_whole(
    start: Start, recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is copied while the task is worked on. It is cancelled before its recording is linked."""
    client = await start(whisper={"step_seconds": 60.0})
    id = await submit(client, recording(5))
    await reached(client, id, "processing")
    running = service(client)
    copy = store(client).backup

    async def copy_then_cancel(file: Path) -> None:
        await copy(file)
        await running.backlog.delete(id)

    monkeypatch.setattr(running.store, "backup", copy_then_cancel)
    file = await taken(client, tmp_path / "backup.tar")
    assert await asyncio.to_thread(members, file) >= {f"tasks/{id}/upload"}
    await until(lambda: not list(running.spool.durable.iterdir()))
    assert (await asyncio.to_thread(restore, file, other(tmp_path))).unfinished == 1


def members(file: Path) -> set[str]:
    with tarfile.open(file) as archive:
        return set(archive.getnames())


async def test_one_backup_is_made_at_a_time_and_one_that_is_given_up_leaves_nothing(
    start: Start, recording: Recording
) -> None:
    client = await start()
    await submit(client, recording(1))
    running = service(client)
    async with running.backups.snapshot("0.0.0"):
        answer = await client.post(BACKUP)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "30")
    assert not (running.settings.data_dir / "backup").exists()
    assert (await client.post(BACKUP)).status == 200


async def test_only_an_administrator_may_have_a_backup_or_drain(start: Start, tmp_path: Path) -> None:
    keys = {}
    for role in ("submit", "read", "metrics", "admin"):
        _, keys[role] = key_file.add(tmp_path / "keys.json", role, role)
    client = await start(access={"keys_file": str(tmp_path / "keys.json")})
    for role, status in (("submit", 403), ("read", 403), ("metrics", 403), ("admin", 200)):
        headers = {"Authorization": f"Bearer {keys[role]}"}
        assert (await client.post(BACKUP, headers=headers)).status == status
        for method in ("GET", "POST", "DELETE"):
            assert (await client.request(method, f"{API}/drain", headers=headers)).status == status


async def test_a_disk_without_room_for_a_copy_is_507(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await start()
    disk = service(client).spool.disk
    monkeypatch.setattr(disk, "_keep_free", 2**60)
    disk._asked = float("-inf")
    assert (await client.post(BACKUP)).status == 507
    assert not (service(client).settings.data_dir / "backup").exists()


@pytest.fixture
def left(settings: Callable[..., Settings]) -> Settings:
    """The data directory of a server that was killed: a task of 0.1.0 that it had completed, and one that it had not,
    with their voice."""
    made = settings()
    data = made.data_dir
    (data / "tasks" / "unfinished").mkdir(parents=True)
    (data / "tasks" / "unfinished" / "upload").write_bytes(b"RIFF" + bytes(2_000_000))
    (data / "tasks" / "unfinished" / "reference-0").write_bytes(b"voice")
    (data / "tasks" / "unfinished" / "audio.f32").write_bytes(b"made again")
    (data / "voices").mkdir()
    (data / "voices" / "ada.voice").write_bytes(b"encrypted")
    with closing(sqlite3.connect(data / "tasks.sqlite")) as database:
        database.executescript((Path(__file__).parent / "support/stores/0.1.0.sql").read_text())
        database.execute("DELETE FROM tasks WHERE status IN ('queued', 'processing') AND id <> 'queued-1'")
        database.execute("UPDATE tasks SET id = 'unfinished' WHERE id = 'queued-1'")
        database.execute("UPDATE tasks SET callback_url = NULL, callback_state = NULL")
        database.commit()
    return made


def saved(settings: Settings, file: Path) -> Path:
    with without_server(settings, "0.0.0") as files:
        body = b"".join(chunks(files))
        assert len(body) == size(files)
    file.write_bytes(body)
    return file


def test_a_backup_without_a_server_leaves_the_data_directory_as_it_was(left: Settings, tmp_path: Path) -> None:
    before = listing(left.data_dir)
    file = saved(left, tmp_path / "backup.tar")
    assert listing(left.data_dir) == before
    with closing(sqlite3.connect(left.data_dir / "tasks.sqlite")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
    names = {"tasks/unfinished/upload", "tasks/unfinished/reference-0", "voices/ada.voice", "tasks.sqlite"}
    assert members(file) == names | {"backup.json", "SHA256SUMS"}


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


async def test_a_restored_backup_of_0_1_0_is_worked_on(left: Settings, tmp_path: Path, start: Start) -> None:
    file = saved(left, tmp_path / "backup.tar")
    settings = other(tmp_path)
    restored = restore(file, settings)
    assert (restored.tasks, restored.unfinished, restored.voices, restored.keys) == (5, 1, 1, False)
    assert (settings.data_dir / "voices" / "ada.voice").read_bytes() == b"encrypted"
    assert not (settings.data_dir / "backup").exists()
    client = await start(data_dir=settings.data_dir, limits={"keep_results_hours": 1e6})
    await reached(client, "unfinished", "completed")
    assert await (await client.get(f"{API}/result/completed")).json() == {"text": "Hello."}


def test_tasks_that_are_there_are_replaced_only_where_that_was_asked_for(left: Settings, tmp_path: Path) -> None:
    file = saved(left, tmp_path / "backup.tar")
    with closing(sqlite3.connect(left.data_dir / "tasks.sqlite")) as database:
        database.execute("UPDATE tasks SET filename = 'secret name' WHERE id = 'unfinished'")
        database.execute("INSERT INTO tasks SELECT 100, 'newer', filename, options, priority, NULL, 0, NULL, 'queued',"
                         "0, NULL, NULL, 0, NULL, NULL, NULL, NULL, 0 FROM tasks WHERE id = 'failed'")  # fmt: skip
        database.commit()
    (left.data_dir / "tasks" / "newer").mkdir()
    with pytest.raises(BackupError, match="6 tasks"):
        restore(file, left)
    assert isinstance(restore(file, left, replace=True), Restored)
    assert [folder.name for folder in (left.data_dir / "tasks").iterdir()] == ["unfinished"]
    with closing(sqlite3.connect(left.data_dir / "tasks.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM tasks").fetchone() == (5,)
    assert not [file for file in left.data_dir.glob("tasks.sqlite*") if b"secret name" in file.read_bytes()]


def test_access_keys_come_with_a_backup_and_stay_where_it_has_none(left: Settings, tmp_path: Path) -> None:
    without = saved(left, tmp_path / "without.tar")
    key_file.add(left.data_dir / "keys.json", "app", "submit")
    file = saved(left, tmp_path / "with.tar")
    settings = other(tmp_path)
    assert restore(file, settings).keys
    assert not restore(without, settings, replace=True).keys
    assert [key.name for key in key_file.read(settings.data_dir / "keys.json")] == ["app"]


def test_keys_that_were_revoked_since_the_backup_stay_so(left: Settings, tmp_path: Path) -> None:
    keys = left.data_dir / "keys.json"
    for name in ("stolen", "app", "old"):
        key_file.add(keys, name, "submit")
    key_file.revoke(keys, "old")
    file = saved(left, tmp_path / "backup.tar")
    key_file.revoke(keys, "stolen")
    key_file.add(keys, "newer", "submit")
    revoked = {key.name: key.revoked for key in key_file.read(keys)}
    assert restore(file, left, replace=True).keys
    assert {key.name: key.revoked for key in key_file.read(keys)} == {
        "stolen": revoked["stolen"],
        "app": None,
        "old": revoked["old"],
    }
    keys.write_text("no keys")
    before = listing(left.data_dir)
    with pytest.raises(BackupError, match=r"keys\.json"):
        restore(file, left, replace=True)
    assert (keys.read_text(), listing(left.data_dir)) == ("no keys", before)


def test_what_a_killed_backup_left_is_removed_by_the_next_one_and_by_a_server(left: Settings, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from diarserve.tasks.data_directory import offline_backup\n"
        "with offline_backup(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    before = listing(left.data_dir)
    for clean in (lambda: saved(left, tmp_path / "backup.tar"), Spool(left.data_dir).prepare):
        subprocess.run([sys.executable, "-c", program, left.data_dir], check=False)
        assert (left.data_dir / "offline-backup" / "half").exists()
        clean()
        assert not (left.data_dir / "offline-backup").exists()
    assert before <= listing(left.data_dir)


def test_two_backups_without_a_server_are_made_one_after_the_other(left: Settings, tmp_path: Path) -> None:
    with without_server(left, "0.0.0") as files:
        with pytest.raises(StoreError, match="being made"):
            saved(left, tmp_path / "second.tar")
        Spool(left.data_dir).prepare()  # as a server that starts
        assert b"".join(chunks(files))
    saved(left, tmp_path / "second.tar")


async def test_nothing_is_restored_under_a_running_server(
    start: Start, left: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_backup, "_PATIENCE", 0.1)
    file = saved(left, tmp_path / "backup.tar")
    running = await start(data_dir=tmp_path / "running")
    settings = left.model_copy(update={"data_dir": tmp_path / "running"})
    for attempt in (lambda: restore(file, settings, replace=True), lambda: saved(settings, tmp_path / "second.tar")):
        with pytest.raises(StoreError, match="locked"):
            await asyncio.to_thread(attempt)
    assert (await document(running, form(wav())))["status"] == "completed"


def test_a_store_that_is_no_file_is_neither_saved_nor_restored(left: Settings, tmp_path: Path) -> None:
    file = saved(left, tmp_path / "backup.tar")
    shared = Store(url=SecretStr("postgresql://nowhere/tasks"), objects="s3://tasks")
    with pytest.raises(BackupError, match="database server"):
        restore(file, other(tmp_path).model_copy(update={"store": shared}))
    assert not other(tmp_path).data_dir.exists()
    with pytest.raises(StoreError, match="database server"):
        saved(left.model_copy(update={"store": shared}), tmp_path / "second.tar")


@pytest.mark.parametrize("harm", ["cut", "flipped", "stranger", "escape", "link", "newer", "lost", "no tar", "store"])
def test_what_is_no_whole_backup_is_refused_and_changes_nothing(left: Settings, tmp_path: Path, harm: str) -> None:
    file = saved(left, tmp_path / "backup.tar")
    damage(file, harm)
    settings = other(tmp_path)
    with pytest.raises((BackupError, StoreError)) as refused:
        restore(file, settings)
    if harm not in ("lost", "store"):
        with pytest.raises(BackupError):
            check(file)
    assert "Traceback" not in str(refused.value)
    assert listing(settings.data_dir) <= {"tasks.sqlite", "tasks"}
    assert (tmp_path / "escaped").exists() is False
    restore(saved(left, tmp_path / "backup.tar"), settings)  # nothing stands in its way


def damage(file: Path, harm: str) -> None:
    body = file.read_bytes()
    if harm == "cut":
        file.write_bytes(body[: len(body) // 2])
    elif harm == "flipped":
        place = body.index(b"RIFF") + 1000
        file.write_bytes(body[:place] + b"\x01" + body[place + 1 :])
    elif harm == "no tar":
        file.write_bytes(b"ID3" + bytes(5000))
    else:
        rewrite(file, harm)


def rewrite(file: Path, harm: str) -> None:
    """With other members, and sums that fit them."""
    with tarfile.open(file) as archive:
        contents = {
            member.name: found.read() for member in archive if (found := archive.extractfile(member)) is not None
        }
    del contents["SHA256SUMS"]
    if harm == "newer":
        contents["backup.json"] = b'{"diarserve": "9.0.0", "schema": 99, "created": 0.0}'
    elif harm == "lost":
        del contents["tasks/unfinished/upload"]
    elif harm == "store":
        store = contents["tasks.sqlite"]
        contents["tasks.sqlite"] = store[:4096] + bytes(4096) + store[8192:]
    else:
        contents[{"stranger": "etc/passwd", "escape": "../escaped", "link": "voices/link.voice"}[harm]] = b"x"
    contents["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()
    ).encode()
    with tarfile.open(file, "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            if name == "voices/link.voice":
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


async def test_a_start_removes_what_an_interrupted_backup_left(start: Start, settings: Callable[..., Settings]) -> None:
    folder = settings().data_dir / "backup"
    folder.mkdir(parents=True)
    shutil.copy(__file__, folder)
    await start()
    assert not folder.exists()
