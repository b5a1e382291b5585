"""A server that is told to stop does stop, whatever is under way and whatever hangs, and the next one starts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import requests

from tests.support import stopping
from tests.support.app import wav
from tests.support.server import API
from tests.support.stop_situations import SITUATIONS, TWICE, live_session
from tests.support.stopping import Request
from tests.support.waiting import wait_until

STOP = 2.0  # seconds
CONTRACT = STOP + 5.0  # seconds; what ends by itself is through long before
SLACK = 20.0  # seconds, of a busy machine


ONCE = (signal.SIGTERM,)
# Of SIGINT and of a second signal, one case each is tried always: they take the same way from there.
OFTEN = {("a request under way", "INT"), ("store hangs", "twice"), ("event loop hangs", "twice")}
CASES = [
    pytest.param(
        situation,
        signals,
        id=f"{situation}-{name}",
        marks=() if name == "TERM" or (situation, name) in OFTEN else pytest.mark.slow_faults,
    )
    for situation in SITUATIONS
    for name, signals in {"TERM": ONCE, "INT": (signal.SIGINT,), "twice": TWICE}.items()
]


@pytest.mark.parametrize(("situation", "signals"), CASES)
def test_it_stops(tmp_path: Path, situation: str, signals: tuple[signal.Signals, ...]) -> None:
    stage = SITUATIONS[situation]
    with stopping.running(tmp_path, stop_seconds=STOP, config=stage.config) as server:
        stage.arrange(server)
        ended = stopping.stop(server, signals, CONTRACT + SLACK)
        # A second signal may come when everything has ended in good order, or while the interpreter itself ends.
        codes = (128 + signal.SIGTERM, -signal.SIGTERM, 0) if signals == TWICE else (stage.code,)
        assert ended.code in codes, server.lines[-5:]
        assert ended.left == []
        assert ended.unlocked


@pytest.mark.parametrize("situation", ["nothing under way", "a request under way", "store hangs"])
def test_it_stops_on_asyncios_own_loop(tmp_path: Path, situation: str) -> None:
    stage = SITUATIONS[situation]
    with stopping.running(tmp_path, stop_seconds=STOP, uvloop=False) as server:
        stage.arrange(server)
        ended = stopping.stop(server, ONCE, CONTRACT + SLACK)
        assert (ended.code, ended.left, ended.unlocked) == (stage.code, [], True)


def test_a_live_session_is_told_that_the_server_goes(tmp_path: Path) -> None:
    with stopping.running(tmp_path, stop_seconds=STOP) as server:
        session = live_session(server)
        server.process.send_signal(signal.SIGTERM)
        for _ in session:  # until it is closed
            pass
        assert session.close_code == 1001  # going away
        assert server.process.wait(60) == 0


def test_requests_under_way_end_while_new_ones_are_refused(tmp_path: Path) -> None:
    with stopping.running(tmp_path, stop_seconds=60) as server:
        server.wait_ready()
        waiting = Request(server, "block-once whisper")
        task = server.submit("endless whisper")
        server.wait_jobs(count=2)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.ready() == 503)
        recording = {"file": ("call.wav", wav(2))}
        for path in ("/transcribe", "/transcribe/async"):
            refused = requests.post(f"{server.url}{API}{path}", files=recording, timeout=30)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "not_ready"
            assert int(refused.headers["Retry-After"]) > 0
            assert refused.headers["Connection"] == "close"
        wait_until(lambda: server.status(task) == "queued")  # it holds up nothing
        [folder] = (server.folder / "data" / "spool").iterdir()
        (folder / "go").touch()
        assert server.process.wait(60) == 0
        waiting.join(60)
        assert waiting.answer is not None
        assert waiting.answer.status_code == 200


def test_a_client_that_still_waits_at_the_end_is_told_so(tmp_path: Path) -> None:
    with stopping.running(tmp_path, stop_seconds=0.5) as server:
        server.wait_ready()
        waiting = Request(server, "endless whisper")
        server.wait_jobs()
        assert stopping.stop(server, ONCE, SLACK).code == 0
        waiting.join(60)
        assert waiting.answer is not None
        assert (waiting.answer.status_code, waiting.answer.json()["error"]["code"]) == (503, "not_ready")


def test_the_next_server_goes_on_with_what_was_under_way(tmp_path: Path) -> None:
    with stopping.running(tmp_path, stop_seconds=STOP) as server:
        server.wait_ready()
        tasks = [server.submit("block-once whisper"), server.submit()]
        server.wait_jobs()
        (tmp_path / "store-hangs").touch()
        assert stopping.stop(server, ONCE, CONTRACT + SLACK).code == 1
    (tmp_path / "store-hangs").unlink()
    with stopping.running(tmp_path) as server:
        server.wait_ready()  # by then the recovery has left only the upload in the task's folder
        (tmp_path / "data" / "tasks" / tasks[0] / "go").touch()
        wait_until(lambda: all(server.status(task) == "completed" for task in tasks))
        assert stopping.stop(server, ONCE, SLACK).code == 0


def test_stopped_workers_die_with_a_server_that_is_killed(tmp_path: Path) -> None:
    with stopping.running(tmp_path) as server:
        server.wait_ready()
        for worker in server.family():
            worker.suspend()
        assert stopping.stop(server, [signal.SIGKILL], SLACK).left == []
