"""A server that has no file descriptor left goes on when there are some again."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from pathlib import Path

import psutil
import pytest
import requests

from tests.support import stopping
from tests.support.app import wav
from tests.support.server import API
from tests.support.stopping import Process
from tests.support.waiting import wait_until

HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@contextmanager
def exhausted(server: Process) -> Iterator[None]:
    """No descriptor is left to the server, and its decode worker has just died."""
    process = psutil.Process(server.process.pid)
    worker = server.workers()["decode"]
    before = process.rlimit(psutil.RLIMIT_NOFILE)
    with ExitStack() as clients:
        process.rlimit(psutil.RLIMIT_NOFILE, (3, before[1]))
        for _ in range(3):  # of which none can be accepted
            clients.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        os.kill(worker, signal.SIGKILL)
        server.wait_said("a decode worker did not start")
        try:
            yield
        finally:
            process.rlimit(psutil.RLIMIT_NOFILE, before)


def assert_serves(server: Process) -> None:
    server.wait_ready()
    answer = requests.post(f"{server.url}{API}/transcribe", files={"file": ("call.wav", wav(2))}, timeout=60)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_it_recovers_when_descriptors_are_back(tmp_path: Path, uvloop: bool) -> None:
    with stopping.running(tmp_path, uvloop=uvloop) as server:
        assert_serves(server)
        with requests.Session() as session:
            session.get(server.url + "/livez", timeout=30)
            with exhausted(server):
                refused = session.post(f"{server.url}{API}/transcribe", files={"file": ("a.wav", wav(2))}, timeout=30)
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
        assert_serves(server)
        assert stopping.stop(server, [signal.SIGTERM], 60).code == 0
        assert server.other_lines == []
        assert len([line for line in server.lines if "accept" in line["message"]]) < 3


def test_without_descriptors_it_is_still_watched_and_deletes(tmp_path: Path) -> None:
    """The store has its files open; what is left of the task's recording goes when there are descriptors again."""
    with stopping.running(tmp_path) as server, requests.Session() as session:
        server.wait_ready()
        id = server.submit("endless whisper")
        server.wait_jobs()
        session.get(server.url + "/livez", timeout=30)
        with exhausted(server):
            metrics = session.get(server.url + "/metrics", timeout=30)
            assert metrics.status_code == 200
            assert "diarserve_spool_bytes" in metrics.text
            for path in ("/stats", f"{API}/tasks", f"{API}/status/{id}"):
                assert session.get(server.url + path, timeout=30).status_code == 200
            deleted = session.delete(f"{server.url}{API}/tasks/{id}", timeout=30)
            assert (deleted.status_code, deleted.json()["status"]["status"]) == (200, "cancelled")
        assert_serves(server)
        wait_until(lambda: not [file for file in (tmp_path / "data").rglob("*/upload") if file.is_file()])
        assert server.other_lines == []


@pytest.mark.parametrize("limit", [64, 1024])
def test_idle_connections_leave_descriptors_for_the_rest(tmp_path: Path, limit: int) -> None:
    with stopping.running(tmp_path, descriptors=limit) as server, ExitStack() as idle:
        server.wait_ready()
        for _ in range(limit):
            idle.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        process = psutil.Process(server.process.pid)
        wait_until(lambda: server.said("another one is refused") or process.num_fds() == limit)
        killed = process.children()
        for worker in killed:
            worker.kill()
        wait_until(lambda: sum("is ready after" in line["message"] for line in server.lines) == 2 * len(killed))
        idle.close()
        assert_serves(server)
        assert stopping.stop(server, [signal.SIGTERM], 60).code == 0
        assert server.other_lines == []


def test_a_refused_connection_is_told_so(tmp_path: Path) -> None:
    with stopping.running(tmp_path, config="[limits]\nmax_connections = 2") as server, ExitStack() as idle:
        server.wait_ready()
        sockets = [idle.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(10)]
        answers = []
        for refused in sockets[-2:]:
            answer = HTTPResponse(refused)
            answer.begin()
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert json.loads(answer.read())["error"]["code"] == "not_ready"
            answers.append(answer)
        assert len({answer.headers["X-Request-ID"] for answer in answers} - {None}) == len(answers)
        sockets[0].close()
        sockets[1].close()
        wait_until(lambda: requests.get(server.url + "/livez", timeout=30).status_code == 200)
        metrics = requests.get(server.url + "/metrics", timeout=30).text
        assert float(metrics.partition('rejects_total{code="not_ready"} ')[2].split()[0]) >= 8


def test_the_soft_limit_is_raised(tmp_path: Path) -> None:
    with stopping.running(tmp_path, descriptors=(256, HARD)) as server:
        server.wait_ready()
        assert psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (HARD, HARD)
