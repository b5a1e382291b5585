"""Whatever happens, every line that a server writes is one JSON object, and a client's mistake is one line."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.support.app import CONFIG, TRANSCRIBE, wav
from tests.support.paths import REPOSITORY
from tests.support.server import until_ready
from tests.support.waiting import wait_until

HANGS = CONFIG.replace("[whisper]", "[whisper]\nstep_timeout = 1")
SECRET_NAME = "patient-4711.wav"


class Log:
    """A server, and what it has written."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        self.process, self.path, self.url = process, path, ""

    def text(self) -> str:
        return self.path.read_bytes().decode("ascii")

    def lines(self) -> list[dict[str, Any]]:
        """Raises ValueError for a line that is not JSON."""
        return [json.loads(line) for line in self.text().splitlines()]

    def said(self, pattern: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if re.search(pattern, line["message"], re.DOTALL)]

    def post(self, body: bytes, **fields: str) -> int:
        files = {"file": (SECRET_NAME, body)}
        return requests.post(self.url + TRANSCRIBE, files=files, data=fields, timeout=60).status_code


@contextmanager
def serving(tmp_path: Path, config: str, *, ready: bool = True) -> Iterator[Log]:
    (tmp_path / "config.toml").write_text(config)
    command = [sys.executable, "-m", "diarserve", "serve", "--port", "0", "--config", str(tmp_path / "config.toml")]
    command += ["--data-dir", str(tmp_path / "data")]
    with (tmp_path / "log").open("wb") as file:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=file, stderr=file, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
        )
    log = Log(process, tmp_path / "log")
    try:
        wait_until(lambda: log.said("listens on"))
        log.url = re.findall(r"http://127\.0\.0\.1:\d+", log.text())[0]
        if ready:
            until_ready(log.url)
        yield log
        process.terminate()
        assert process.wait(60) == 0
        for line in log.lines():
            assert {"time", "level", "process", "pid", "module", "message"} <= line.keys()
    finally:
        process.kill()
        process.wait()


def test_a_bad_upload_is_one_line(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG) as log:
        mistakes: list[tuple[int, bytes, dict[str, str]]] = [
            (415, b"no recording at all " * 500, {}),
            (400, b"", {}),
            (400, wav(), {"num_speakers": "many"}),
            (422, wav(order="refuse whisper"), {}),
        ]
        for status, body, fields in mistakes:
            before = len(log.lines())
            assert log.post(body, **fields) == status
            [line] = log.lines()[before:]
            assert (line["level"], line["message"].split()[:2]) == ("info", ["answered", str(status)])
            assert line["request"]
        assert "Traceback" not in log.text()
        assert SECRET_NAME not in log.text()


def test_odd_headers_are_no_warnings(tmp_path: Path) -> None:
    odd = (
        b'form-data; name="file"; \x1b[2Jevil=1; filename="a"',
        b'form-\x9bdata; name="file"',
        b"form-data; name=file; filename*=nonsense''%ff",
        b'form-data; name="file"; name="file"',
    )
    with serving(tmp_path, CONFIG) as log:
        for disposition in odd:
            body = b"--x\r\nContent-Disposition: %s\r\n\r\n%s\r\n--x--\r\n" % (disposition, wav())
            kind = {"Content-Type": "multipart/form-data; boundary=x"}
            assert requests.post(log.url + TRANSCRIBE, body, headers=kind, timeout=60).status_code < 500
        port = int(log.url.rpartition(":")[2])
        for request in (
            b"\x16\x03\x01\x02\x00\x01",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST \xff\x1b[2J HTTP/1.1\r\nX\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass
        assert not log.said("BadContentDisposition")
        assert all(line["level"] == "info" for line in log.lines())


def test_what_a_worker_prints_is_taken_into_the_log(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG) as log:
        assert log.post(wav(1, "noise whisper")) == 200
        wait_until(lambda: log.said("whisper worker [0-9]+ wrote: .*printed") and log.said("written by C"))
        assert log.said("UserWarning: warned of")[0]["process"] == "whisper"
        [uncaught] = log.said("uncaught: ZeroDivisionError")
        assert "division by zero" in uncaught["trace"]


@pytest.mark.parametrize(
    ("order", "sign"),
    [("hang-once", "Timeout"), ("abort", "Aborted"), ("segfault", "Segmentation fault"), ("kill-once", "is gone")],
)
def test_how_a_worker_died_is_in_the_log(tmp_path: Path, order: str, sign: str) -> None:
    with serving(tmp_path, HANGS) as log:
        log.post(wav(1, f"{order} whisper"))
        wait_until(lambda: log.said(sign))


def test_a_worker_that_is_killed_from_outside_leaves_json(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG) as log:
        for worker in psutil.Process(log.process.pid).children():
            worker.send_signal(signal.SIGKILL)
        wait_until(lambda: len(log.said("is ready after")) >= 6)


def test_an_engine_that_does_not_start_leaves_json(tmp_path: Path) -> None:
    config = CONFIG.replace("[whisper]", '[whisper]\nboot = "fail"')
    with serving(tmp_path, config, ready=False) as log:
        wait_until(lambda: log.said("lane is halted"))
        assert log.said("no such model")


def test_a_server_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        command = [sys.executable, "-m", "diarserve", "serve", "--port", str(other.getsockname()[1])]
        command += ["--data-dir", str(tmp_path / "data"), "--config", str(tmp_path / "config.toml")]
        (tmp_path / "config.toml").write_text(CONFIG)
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line for line in lines if "cannot start" in line["message"]]
