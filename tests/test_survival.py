"""Accepted tasks outlive their server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from tests.support import kill_storm
from tests.support.app import wav
from tests.support.paths import REPOSITORY
from tests.support.server import API, running


def test_tasks_survive_a_server_that_is_killed(tmp_path: Path) -> None:
    outcome = kill_storm.play(tmp_path, [kill_storm.when_three_run(tmp_path / "gate")])
    assert outcome.wrong == []
    assert (outcome.accepted, outcome.right, outcome.lost, outcome.doubled) == (
        kill_storm.TASKS,
        kill_storm.TASKS,
        0,
        0,
    )
    assert outcome.orphans == 0
    assert outcome.attempts == kill_storm.TASKS + 3  # those that ran when it was killed, again


def test_a_second_server_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    config, data = tmp_path / "config.toml", tmp_path / "data"
    config.write_text(kill_storm.CONFIG.replace("{gate}", str(tmp_path / "gate")))
    arguments = ["--config", str(config), "--data-dir", str(data)]
    with running(arguments=arguments):
        (data / "spool" / "upload-under-way").mkdir()
        command = [sys.executable, "-m", "diarserve", "serve", "--port", "0", *arguments]
        second = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=60)
        assert second.returncode == 2
        assert "is another server using it?" in second.stderr
        assert str(data / "tasks.sqlite") in second.stderr
        assert "Traceback" not in second.stderr
        assert (data / "spool" / "upload-under-way").is_dir()


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]])
def test_signals_end_the_server_and_its_workers_in_the_midst_of_work(
    tmp_path: Path, signals: list[signal.Signals]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(kill_storm.CONFIG.replace("{gate}", str(tmp_path / "gate")))
    with running(arguments=["--config", str(config)]) as server:
        recording = {"file": ("call.wav", wav(2, "endless whisper"))}
        task = requests.post(f"{server.url}{API}/transcribe/async", files=recording, timeout=30).json()["task_id"]
        status = f"{API}/status/{task}"
        assert any(server.get(status)["status"]["status"] == "processing" for _ in range(5000))
        family = psutil.Process(server.pid).children(recursive=True)
        for number in signals:
            os.kill(server.pid, number)
        assert psutil.wait_procs(family, timeout=20)[1] == []
        server_ended = psutil.Process(server.pid)
        assert server_ended.wait(20) is not None or not server_ended.is_running()
