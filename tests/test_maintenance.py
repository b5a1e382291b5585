"""The commands of an operator: backup, restore and drain, against a server process."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diarserve.access import key_file
from diarserve.cli.main import main
from diarserve.core.settings import Settings
from diarserve.tasks.store import sqlite_backup
from tests.support.server import API
from tests.support.serving import serving
from tests.support.target import Target, under_attack
from tests.support.waiting import wait_until


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    """A server whose models wait for the file `gate` to be gone."""
    environment = {"DIARSERVE_WHISPER_GATE": str(tmp_path / "gate"), "DIARSERVE_LIMITS_RUNNING": "1"}
    environment["TMPDIR"] = str(tmp_path / "temporary" / "files")  # as in a container: not there at first
    with under_attack(tmp_path, environment) as started:
        yield started


def run(target: Target, *arguments: str) -> int:
    return main([*arguments, "--server", target.server.url])


def test_a_backup_goes_to_another_machine_and_its_tasks_with_it(
    target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_backup, "_PATIENCE", 0.1)
    (tmp_path / "gate").touch()
    ids = [target.submit() for _ in range(3)]
    file = tmp_path / "backup.tar"
    assert run(target, "backup", str(file)) == 0
    assert "whole and readable" in capsys.readouterr().err
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("backup.tar*")] == ["backup.tar"]
    with tarfile.open(file) as archive:
        assert {f"tasks/{id}/upload" for id in ids} <= set(archive.getnames())
    (tmp_path / "gate").unlink()
    target.assert_all_ended_once()

    # The first server is still there: nothing is put into its data directory, and nothing is read from under it.
    assert main(["restore", str(file), "--data-dir", str(target.data), "--replace"]) == 2
    assert main(["backup", str(tmp_path / "second.tar"), "--offline", "--data-dir", str(target.data)]) == 2
    assert capsys.readouterr().err.count("a server uses it") == 2
    assert not (tmp_path / "second.tar").exists()

    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    assert main(["restore", str(file), "--data-dir", str(other / "data")]) == 0
    assert "3 tasks had not ended" in capsys.readouterr().err
    assert main(["restore", str(file), "--data-dir", str(other / "data")]) == 1
    assert "--replace" in capsys.readouterr().err
    assert main(["backup", str(tmp_path / "offline.tar"), "--offline", "--data-dir", str(other / "data")]) == 0
    with under_attack(other, None, target.callbacks, dict.fromkeys(ids, "completed")) as restored:
        for id in ids:
            assert restored.wait_for(id, "completed", "failed")["status"] == "completed"


def test_a_drained_server_ends_what_is_under_way_and_is_stopped_or_goes_on(
    target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (tmp_path / "temporary" / "files").stat().st_mode & 0o777 == 0o700
    (tmp_path / "gate").touch()
    working, queued = target.submit(), target.submit()
    wait_until(lambda: target.server.get("/stats")["store"]["tasks"]["processing"] == 1)
    assert run(target, "drain", "--timeout", "0") == 1
    assert "work is still under way" in capsys.readouterr().err
    assert target.offer().status_code == 503
    (tmp_path / "gate").unlink()
    assert run(target, "drain") == 0
    assert "1 tasks stay queued" in capsys.readouterr().err
    statuses = {id: target.server.get(f"{API}/status/{id}")["status"]["status"] for id in (working, queued)}
    assert statuses == {working: "completed", queued: "queued"}
    assert run(target, "drain", "--end") == 0
    target.assert_all_ended_once()


def test_a_server_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["drain"], ["backup", str(tmp_path / "backup.tar")]):
        assert main([*command, "--server", "http://127.0.0.1:9"]) == 3
        assert "does not answer" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_a_key_of_the_role_admin_is_needed_and_enough(
    tmp_path: Path, settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    _, submit = key_file.add(tmp_path / "keys.json", "app", "submit")
    _, admin = key_file.add(tmp_path / "keys.json", "operator", "admin")
    with serving(settings(access={"keys_file": str(tmp_path / "keys.json")})) as url:
        for command in (["drain"], ["drain", "--end"], ["backup", str(tmp_path / "backup.tar")]):
            asked = [*command, "--server", url, "--api-key"]
            assert [main([*asked, key]) for key in ("dsk_wrong", submit, admin)] == [3, 3, 0], command
    said = capsys.readouterr().err
    assert "not known here" in said
    assert "may not do this" in said
    assert (tmp_path / "backup.tar").exists()


def test_a_file_that_is_no_backup_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "backup.tar"
    file.write_bytes(b"no backup")
    assert main(["restore", str(file), "--data-dir", str(tmp_path / "data")]) == 1
    assert "no whole tar archive" in capsys.readouterr().err
    assert main(["backup", str(tmp_path / "x.tar"), "--offline", "--data-dir", str(tmp_path / "nothing")]) == 2
    assert "no task store" in capsys.readouterr().err
