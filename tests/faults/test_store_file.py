"""Harm that is done to the store's file: the server goes on, or says why it cannot and touches nothing."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.callbacks import Callbacks
from tests.support.paths import REPOSITORY
from tests.support.target import Target, assert_all_back, under_attack
from tests.support.waiting import wait_until

TASKS = 12


@pytest.fixture
def accepted(tmp_path: Path, callbacks: Callbacks) -> dict[str, str]:
    """Tasks that a server accepted, and the next one is to do."""
    gate = tmp_path / "gate"
    gate.touch()
    tasks: dict[str, str] = {}
    with under_attack(tmp_path, {"DIARSERVE_WHISPER_GATE": str(gate)}, callbacks, tasks) as target:
        for _ in range(TASKS):
            target.submit()
    return tasks


def refusal(folder: Path) -> str:
    """What a server says that does not start on the data directory in `folder`."""
    command = [sys.executable, "-m", "diarserve", "serve", "--port", "0", "--data-dir", str(folder / "data")]
    command += ["--config", str(folder / "config.toml")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=60)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert str(folder / "data" / "tasks.sqlite") in ended.stderr
    return ended.stderr


def recordings(folder: Path) -> set[str]:
    return {task.name for task in (folder / "data" / "tasks").iterdir()}


def finish(folder: Path, callbacks: Callbacks, accepted: dict[str, str]) -> None:
    with under_attack(folder, None, callbacks, accepted) as target:
        assert_all_back(target, target.holdings())


def test_a_store_that_another_process_holds_is_refused_until_it_is_let_go(
    tmp_path: Path, callbacks: Callbacks, accepted: dict[str, str]
) -> None:
    other = sqlite3.connect(tmp_path / "data" / "tasks.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert "locked" in refusal(tmp_path)
    other.close()
    assert recordings(tmp_path) == accepted.keys()
    finish(tmp_path, callbacks, accepted)


def test_nobody_gets_into_the_store_of_a_server_that_runs(tmp_path: Path) -> None:
    with under_attack(tmp_path) as target:
        target.submit()
        target.assert_all_ended_once()
        before = target.holdings()
        other = sqlite3.connect(target.data / "tasks.sqlite", timeout=0.1)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("DELETE FROM tasks")
        other.close()
        target.submit()
        assert_all_back(target, before)


@pytest.mark.parametrize("where", ["head", "pages"])
def test_a_store_whose_bytes_were_flipped_is_refused_and_its_recordings_are_kept(
    tmp_path: Path, callbacks: Callbacks, accepted: dict[str, str], where: str
) -> None:
    file = tmp_path / "data" / "tasks.sqlite"
    whole = file.read_bytes()
    chance = random.Random(1)
    places = range(100) if where == "head" else [chance.randrange(4096, len(whole)) for _ in range(len(whole) // 20)]
    broken = bytearray(whole)
    for place in places:
        broken[place] ^= 0xFF
    file.write_bytes(broken)
    refusal(tmp_path)
    assert recordings(tmp_path) == accepted.keys()
    file.write_bytes(whole)  # the operator has a copy
    finish(tmp_path, callbacks, accepted)


def kill(target: Target) -> None:
    """The server, so that it cannot tidy up, and wait for its workers' end."""
    process = psutil.Process(target.server.pid)
    family = process.children(recursive=True)
    process.send_signal(signal.SIGKILL)
    assert psutil.wait_procs(family, timeout=20)[1] == []


def test_a_log_that_is_deleted_from_under_the_server_costs_nothing(tmp_path: Path, callbacks: Callbacks) -> None:
    accepted: dict[str, str] = {}
    with under_attack(tmp_path, None, callbacks, accepted) as target:
        target.submit()
        target.assert_all_ended_once()
        (target.data / "tasks.sqlite-wal").unlink()
        target.submit()
        target.assert_all_ended_once()
    finish(tmp_path, callbacks, accepted)


def test_a_log_that_is_torn_off_loses_no_task_before_the_tear(
    tmp_path: Path, callbacks: Callbacks, accepted: dict[str, str]
) -> None:
    gate = tmp_path / "gate"
    with under_attack(tmp_path, {"DIARSERVE_WHISPER_GATE": str(gate)}, callbacks, accepted) as target:
        wait_until(lambda: target.server.get("/stats")["store"]["tasks"]["processing"] == 4)
        kill(target)
    log = tmp_path / "data" / "tasks.sqlite-wal"
    log.write_bytes(log.read_bytes()[:-1000])
    gate.unlink()
    finish(tmp_path, callbacks, accepted)
