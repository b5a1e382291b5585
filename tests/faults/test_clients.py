"""Clients that break off, dawdle, or come in crowds: nothing of theirs is left, and others are served."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.app import wav
from tests.support.server import API
from tests.support.target import Holdings, Target, assert_all_back, under_attack
from tests.support.waiting import wait_until

UPLOADS = ("/transcribe", "/transcribe/async", "/batch/async")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with under_attack(tmp_path_factory.mktemp("clients"), {"DIARSERVE_LIMITS_UPLOAD_TIMEOUT": "3"}) as begun:
        begun.submit()
        begun.assert_all_ended_once()  # what is opened once, with the first task, is open
        yield begun


def form(recording: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="a.wav"\r\n\r\n'
    return head % b"file" + recording + b"\r\n--b--\r\n"


def connected(target: Target, method: str, path: str, body: bytes = b"", length: int | None = None) -> socket.socket:
    """A connection on which a request was sent, with a body that may be shorter than it says."""
    sock = socket.create_connection(("127.0.0.1", target.server.port), timeout=60)
    size = len(body) if length is None else length
    head = f"{method} {API}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
    sock.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode() + body)
    return sock


@pytest.mark.parametrize("path", UPLOADS)
def test_uploads_that_are_cut_off_leave_nothing(target: Target, before: Holdings, path: str) -> None:
    body = form(wav(10))
    cut = [connected(target, "POST", path, body[: len(body) * n // 20], len(body)) for n in range(20)]
    wait_until(lambda: list((target.data / "spool").iterdir()))
    for sock in cut:
        sock.close()
    assert_all_back(target, before)


@pytest.mark.parametrize("path", UPLOADS)
def test_a_form_that_ends_too_early_is_refused_and_leaves_nothing(target: Target, before: Holdings, path: str) -> None:
    for end in (5, 60, 5000):
        with connected(target, "POST", path, form(wav(1))[:end]) as sock:
            assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert_all_back(target, before)


@pytest.mark.parametrize("path", UPLOADS)
def test_a_slow_upload_is_ended(target: Target, before: Holdings, path: str) -> None:
    body = form(wav(10))
    with connected(target, "POST", path, body[:10_000], len(body)) as sock:
        assert sock.recv(65536).startswith(b"HTTP/1.1 408 ")
    assert_all_back(target, before)


def test_clients_that_go_away_in_mid_job_take_it_along(target: Target, before: Holdings) -> None:
    body = form(wav(2, "endless whisper"))
    waiting = [connected(target, "POST", "/transcribe", body) for _ in range(3)]
    wait_until(lambda: target.lane("whisper")["jobs"] == 3)
    for sock in waiting:
        sock.close()
    assert_all_back(target, before)


def test_watchers_that_go_away_disturb_no_task(target: Target, before: Holdings) -> None:
    task = target.submit(2, "block-once whisper")
    target.wait_for(task, "processing")
    watching = [connected(target, "GET", f"/events/{task}") for _ in range(20)]
    for sock in watching:
        assert sock.recv(15) == b"HTTP/1.1 200 OK"
    for sock in watching:
        sock.close()
    target.busy("whisper")
    (target.data / "tasks" / task / "go").touch()
    assert_all_back(target, before)


def test_ten_times_the_queue_is_refused_and_what_was_accepted_is_done(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    environment = {
        "DIARSERVE_WHISPER_GATE": str(gate),
        "DIARSERVE_LIMITS_MAX_QUEUED": "5",
        "DIARSERVE_LIMITS_RUNNING": "1",
        "DIARSERVE_LIMITS_MAX_PENDING": "4",
    }
    with under_attack(tmp_path, environment) as target, ThreadPoolExecutor(40) as clients:
        target.submit()
        target.assert_all_ended_once()
        before = target.holdings()
        gate.touch()
        answers = [target.offer() for _ in range(50)]
        accepted = [answer for answer in answers if answer.status_code == 202]
        target.accepted |= {answer.json()["task_id"]: "completed" for answer in accepted}
        assert 5 <= len(accepted) <= 6  # one of them runs
        refused = [answer for answer in answers if answer.status_code != 202]
        waiting = [clients.submit(target.post, "/transcribe") for _ in range(40)]
        wait_until(lambda: sum(future.done() for future in waiting) == 36)
        refused += [future.result() for future in waiting if future.done()]
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
        gate.unlink()
        assert sorted(future.result().status_code for future in waiting) == [200] * 4 + [429] * 36
        assert_all_back(target, before)
