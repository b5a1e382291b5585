"""A live server on stand-in engines in real processes, to do harm to, and what must be as before after that."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support.app import CONFIG as STAND_INS
from tests.support.app import ENDED, wav
from tests.support.callbacks import Callbacks, receiving
from tests.support.paths import REPOSITORY
from tests.support.server import API, Server, running
from tests.support.waiting import wait_until

CONFIG = (
    STAND_INS
    + """
[webhooks]
allow_private = true
"""
)
_GROWTH = 64 * 2**20  # bytes that a process may keep: malloc's and the interpreter's own caches, not a leak
_BUSY = 120.0  # seconds within which a busy machine is done with what a test began


@dataclass(frozen=True)
class Holdings:
    """What a server holds when nobody asks it for anything."""

    descriptors: Counter[str]  # of its own process: what each leads to, without numbers
    processes: int  # itself and its workers
    memory: Mapping[str, int]  # bytes of RSS, of the server and of each lane


@dataclass
class Target:
    server: Server
    data: Path
    callbacks: Callbacks
    accepted: dict[str, str] = field(default_factory=dict)  # the status in which each task must end

    def submit(self, seconds: int = 2, order: str = "", ends: str = "completed", **options: str) -> str:
        """A task, accepted; its id."""
        answer = self.offer(seconds, order, **options)
        assert answer.status_code == 202, answer.text
        id: str = answer.json()["task_id"]
        self.accepted[id] = ends
        return id

    def offer(self, seconds: int = 2, order: str = "", **options: str) -> requests.Response:
        """The answer to a submission, whatever it is."""
        return self.post("/transcribe/async", seconds, order, callback_url=self.callbacks.url, **options)

    def post(self, path: str, seconds: int = 2, order: str = "", **options: str) -> requests.Response:
        files = {"file": ("call.wav", wav(seconds, order))}
        headers = {
            "Prefer": "respond-async",
            "Connection": "close",
        }  # a Response holds its connection, and so the server's
        return requests.post(self.server.url + API + path, files=files, data=options, headers=headers, timeout=_BUSY)

    def status(self, id: str) -> dict[str, Any]:
        status: dict[str, Any] = self.server.get(f"{API}/status/{id}")["status"]
        return status

    def wait_for(self, id: str, *wanted: str) -> dict[str, Any]:
        wait_until(lambda: self.status(id)["status"] in wanted, _BUSY)
        return self.status(id)

    def lane(self, name: str) -> dict[str, Any]:
        """What /stats says of the lane's only worker."""
        [worker] = self.server.get("/stats")["lanes"][name]["workers"]
        shown: dict[str, Any] = worker
        return shown

    def busy(self, lane: str) -> int:
        """The process of the lane's worker, once it has a job."""
        wait_until(lambda: self.lane(lane)["jobs"] and self.lane(lane)["pid"])
        pid: int = self.lane(lane)["pid"]
        return pid

    def holdings(self) -> Holdings:
        """Of a server that has nothing to do."""
        workers = self.server.workers()
        resident = {name: sum(_resident(pid) for pid in pids) for name, pids in workers.items()}
        return Holdings(
            descriptors=_descriptors(self.server.pid),
            processes=1 + len(psutil.Process(self.server.pid).children(recursive=True)),
            memory={"server": _resident(self.server.pid), **resident},
        )

    def folders(self) -> list[Path]:
        return [folder for root in ("spool", "tasks", "trash") for folder in (self.data / root).iterdir()]

    def assert_all_ended_once(self) -> None:
        """Every task that was accepted, as it must, its callback made once, and no task besides."""
        for id, ends in self.accepted.items():
            assert self.wait_for(id, *ENDED)["status"] == ends
        listed = self.server.get(f"{API}/tasks?limit=1000")["tasks"]
        assert {task["task_id"]: task["status"] for task in listed} == self.accepted
        completed = [id for id, ends in self.accepted.items() if ends == "completed"]
        assert self.server.get("/stats")["store"]["ever_completed"] == len(completed)
        for id in completed:
            assert self.server.get(f"{API}/result/{id}")["task_id"] == id
        wait_until(lambda: self.callbacks.bodies.keys() >= self.accepted.keys())
        assert {id: len(bodies) for id, bodies in self.callbacks.bodies.items()} == dict.fromkeys(self.accepted, 1)


def assert_all_back(target: Target, before: Holdings) -> None:
    """All accepted tasks have ended, once each, and the server holds what it held before they came."""
    target.assert_all_ended_once()
    assert_nothing_is_left(target, before)
    assert target.post("/transcribe").status_code == 200


def assert_nothing_is_left(target: Target, before: Holdings) -> Holdings:
    """There is no folder, no descriptor, no process and no memory more than before; all workers are up, and have
    nothing to do. What the server holds now."""

    def idle() -> bool:
        lanes = target.server.get("/stats")["lanes"].values()
        return all(worker["pid"] and not worker["jobs"] for lane in lanes for worker in lane["workers"])

    wait_until(idle, _BUSY)
    wait_until(lambda: not [*(target.data / "spool").iterdir(), *(target.data / "tasks").iterdir()])
    now = before
    left: tuple[object, ...] = ()

    def nothing_is_left() -> bool:
        nonlocal now, left
        now = target.holdings()
        grown = {name: size for name, size in now.memory.items() if size > before.memory[name] + _GROWTH}
        left = (now.descriptors - before.descriptors, now.processes - before.processes, grown)
        return left == (Counter(), 0, {})

    with suppress(AssertionError):  # the next assertion says what is left
        wait_until(nothing_is_left)
    assert left == (Counter(), 0, {})
    return now


@contextmanager
def under_attack(
    folder: Path,
    environment: Mapping[str, str] | None = None,
    callbacks: Callbacks | None = None,
    accepted: dict[str, str] | None = None,
    *,
    wait_ready: bool = True,
    settings: str = CONFIG,
) -> Iterator[Target]:
    """A server whose data directory is in `folder`. One after another may be there, to which the same `callbacks` and
    `accepted` are given. `environment` holds settings that differ: {"DIARSERVE_LIMITS_MAX_QUEUED": "5"}."""
    config, data = folder / "config.toml", folder / "data"
    config.write_text(settings)
    arguments = ["--config", str(config), "--data-dir", str(data)]
    environment = {"PYTHONPATH": str(REPOSITORY), **(environment or {})}
    with ExitStack() as stack:
        callbacks = callbacks or stack.enter_context(receiving())
        server = stack.enter_context(running(environment, arguments=arguments, wait_ready=wait_ready))
        yield Target(server, data, callbacks, {} if accepted is None else accepted)


def _descriptors(pid: int) -> Counter[str]:
    found: Counter[str] = Counter()
    folder = f"/proc/{pid}/fd"
    for number in os.listdir(folder):
        with suppress(FileNotFoundError):
            found[re.sub(r"\[\d+\]", "", os.readlink(f"{folder}/{number}"))] += 1
    return found


def _resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)
