"""Servers that are told to stop."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support.app import wav
from tests.support.paths import REPOSITORY
from tests.support.server import API
from tests.support.waiting import wait_until

CONFIG = """
separate = false
[decode]
engine = "tests.support.standins:Copier"
[embedded]
engine = "tests.support.standins:Diarizer"
[whisper]
engine = "tests.support.standins:Whisper"
"""


class Process:
    """`diarserve serve` in a folder, and what it logs.

    stop_seconds: None is the default.
    descriptors: RLIMIT_NOFILE, or its soft and its hard limit.
    """

    def __init__(
        self,
        folder: Path,
        *,
        stop_seconds: float | None = None,
        config: str = "",
        uvloop: bool = True,
        descriptors: int | tuple[int, int] | None = None,
    ) -> None:
        (folder / "config.toml").write_text(CONFIG + config)
        command = [sys.executable, "-m", "tests.support.hung_machine", str(folder), "serve", "--port", "0"]
        command += ["--config", str(folder / "config.toml"), "--data-dir", str(folder / "data")]
        stop = {} if stop_seconds is None else {"DIARSERVE_STOP_SECONDS": str(stop_seconds)}
        loop = {} if uvloop else {"WITHOUT_UVLOOP": ""}
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **stop, **loop}
        self.folder = folder
        self.lines: list[dict[str, Any]] = []
        self.clients = ExitStack()  # closed when it has ended
        self.other_lines: list[str] = []  # that are not JSON
        if descriptors is not None:
            soft, hard = (descriptors, descriptors) if isinstance(descriptors, int) else descriptors
            command = ["prlimit", f"--nofile={soft}:{hard}", *command]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.other_lines.append(line)

    def said(self, text: str) -> dict[str, Any] | None:
        return next((line for line in self.lines if text in line["message"]), None)

    def wait_said(self, text: str) -> dict[str, Any]:
        def heard() -> bool:
            assert self.process.poll() is None or self.said(text), self.lines[-3:]
            return self.said(text) is not None

        wait_until(heard)
        line = self.said(text)
        assert line
        return line

    @property
    def url(self) -> str:
        message: str = self.wait_said("listens on")["message"]
        return message.split("listens on ")[1].split(",")[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ready(self) -> int:
        """The status of /readyz; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(self.url + "/readyz", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def wait_ready(self) -> None:
        wait_until(lambda: self.ready() == 200)

    def workers(self) -> dict[str, int]:
        """The process of each lane, which has one."""
        lanes = requests.get(self.url + "/stats", timeout=10).json()["lanes"]
        return {name: worker["pid"] for name, lane in lanes.items() for worker in lane["workers"]}

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def submit(self, order: str = "") -> str:
        """A durable task."""
        recording = {"file": ("call.wav", wav(2, order))}
        answer = requests.post(f"{self.url}{API}/transcribe/async", files=recording, timeout=30)
        answer.raise_for_status()
        id: str = answer.json()["task_id"]
        return id

    def status(self, id: str) -> str:
        status: str = requests.get(f"{self.url}{API}/status/{id}", timeout=30).json()["status"]["status"]
        return status

    def wait_jobs(self, lane: str = "whisper", count: int = 1) -> None:
        """Until a worker holds so many."""

        def held() -> bool:
            lanes = requests.get(self.url + "/stats", timeout=10).json()["lanes"]
            return bool(sum(worker["jobs"] for worker in lanes[lane]["workers"]) >= count)

        wait_until(held)

    def kill(self) -> None:
        """For what is left of it."""
        with suppress(psutil.Error):
            for process in [*self.family(), psutil.Process(self.process.pid)]:
                with suppress(psutil.Error):
                    process.kill()
        self.process.wait(30)
        self._reader.join(30)
        assert self.process.stderr
        self.process.stderr.close()
        self.clients.close()


@dataclass
class Request(threading.Thread):
    """A request whose client waits."""

    server: Process
    order: str
    answer: requests.Response | None = None
    error: Exception | None = None

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.start()
        self.server.clients.callback(self.join, 30)

    def run(self) -> None:
        try:
            recording = {"file": ("call.wav", wav(2, self.order))}
            self.answer = requests.post(f"{self.server.url}{API}/transcribe", files=recording, timeout=120)
        except requests.RequestException as error:
            self.error = error

    __hash__ = threading.Thread.__hash__


@dataclass(frozen=True)
class Ended:
    seconds: float  # from the first signal to the exit
    code: int
    left: Sequence[psutil.Process]  # workers that outlived it
    unlocked: bool  # whether the store may be opened by another server


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Process]:
    server = Process(folder, **options)
    try:
        yield server
    finally:
        server.kill()


def stop(server: Process, signals: Sequence[signal.Signals], limit: float) -> Ended:
    """Send the signals, each when the one before it was heard. Raises TimeoutExpired after so many seconds."""
    family = server.family()
    began = time.monotonic()
    for earlier, number in enumerate(signals):
        if earlier:
            server.wait_said("requests under way have")  # two of the same that are not handled yet are one
        server.process.send_signal(number)
    code = server.process.wait(limit)
    seconds = time.monotonic() - began
    _, left = psutil.wait_procs(family, timeout=10)
    return Ended(seconds, code, left, _is_unlocked(server.folder / "data" / "tasks.sqlite"))


def _is_unlocked(path: Path) -> bool:
    database = sqlite3.connect(path, timeout=5)
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return False
    finally:
        database.close()
    return True
