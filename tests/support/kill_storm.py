"""Kill the server and its workers at random moments. Every task that was accepted must end, once, with its own words.

The engines are the tests' stand-ins: what is tried here is the machinery around models.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support.paths import REPOSITORY
from tests.support.server import Server, running
from tests.support.waiting import wait_until

TASKS = 23
_API = "/api/v1/parallel"
CONFIG = """
separate = false
[limits]
running = 3
attempts = 100
[decode]
engine = "tests.support.standins:Copier"
[whisper]
engine = "tests.support.standins:Whisper"
step_seconds = 0.05
gate = "{gate}"
[embedded]
engine = "tests.support.standins:Diarizer"
step_seconds = 0.02
"""

Kill = Callable[[Server], "Killed"]


@dataclass(frozen=True, slots=True)
class Killed:
    workers: int
    family: list[psutil.Process]  # that the server had when it was killed


@dataclass(slots=True)
class Round:
    """What came of some tasks whose server was killed."""

    wrong: list[str]  # what should not be
    servers: int = 0  # killed
    workers: int = 0  # killed
    attempts: int = 0  # of all tasks together
    orphans: int = 0  # processes that outlived their server


def play(folder: Path, kills: Sequence[Kill]) -> Round:
    """Submit tasks, again after every kill until each is accepted, and let the last server finish them. No step of
    Whisper ends while there is a file "gate" in the folder."""
    config, data = folder / "config.toml", folder / "data"
    config.write_text(CONFIG.format(gate=folder / "gate"))
    arguments = ["--config", str(config), "--data-dir", str(data)]
    environment = {"PYTHONPATH": str(REPOSITORY)}
    accepted: dict[str, int] = {}  # how long each recording is, by task
    outcome = Round([])
    for kill in [*kills, None]:
        with ThreadPoolExecutor(1) as pool, running(environment, arguments=arguments) as server:
            killing = pool.submit(kill, server) if kill else None
            try:
                _submit(server, accepted)
                _wait(server)
                if kill is None:
                    _check(server, accepted, data, outcome)
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if kill is None:
                    outcome.wrong.append("the last server, which nobody killed, went away")
            if killing:
                killed = killing.result()  # raises what kept it from killing
                outcome.servers, outcome.workers = outcome.servers + 1, outcome.workers + killed.workers
                outcome.orphans += len(psutil.wait_procs(killed.family, timeout=10)[1])
    return outcome


def when_three_run(gate: Path) -> Kill:
    """Kill the server when it has accepted all tasks and three of them run, which the gate keeps running until then."""
    gate.touch()

    def kill(server: Server) -> Killed:
        def three_run() -> bool:
            tasks = server.get("/stats")["store"]["tasks"]
            return (tasks["processing"], tasks["queued"]) == (3, TASKS - 3)

        wait_until(three_run)
        killed = _end(server, 0)
        gate.unlink()
        return killed

    return kill


def at_random(chance: random.Random) -> Kill:
    """Kill none to two workers, then the server."""
    pauses = [chance.uniform(0, 1.5) for _ in range(chance.randint(1, 3))]

    def kill(server: Server) -> Killed:
        workers = 0
        for pause in pauses[:-1]:
            time.sleep(pause)
            lanes = server.get("/stats")["lanes"].values()
            pids = [worker["pid"] for lane in lanes for worker in lane["workers"] if worker["pid"]]
            with suppress(ProcessLookupError, IndexError):
                os.kill(chance.choice(pids), signal.SIGKILL)
                workers += 1
        time.sleep(pauses[-1])
        return _end(server, workers)

    return kill


def _end(server: Server, workers: int) -> Killed:
    process = psutil.Process(server.pid)
    process.suspend()  # so that it starts no worker unseen
    family = process.children(recursive=True)
    process.kill()
    return Killed(workers, family)


def _submit(server: Server, accepted: dict[str, int]) -> None:
    """Submit what has not been accepted. A key makes up for answers that were lost."""
    for number in range(len(accepted), TASKS):
        seconds = 1 + number % 7
        answer = requests.post(
            f"{server.url}{_API}/transcribe/async",
            files={"file": (f"{number}.wav", _recording(seconds))},
            headers={"Idempotency-Key": str(number), "Prefer": "respond-async"},
            timeout=30,
        )
        answer.raise_for_status()
        accepted[answer.json()["task_id"]] = seconds


def _wait(server: Server, limit: float = 120.0) -> None:
    """Until every task has ended."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        tasks = _get(server, "/stats")["store"]["tasks"]
        if not tasks["queued"] + tasks["processing"]:
            return
        time.sleep(0.05)


def _check(server: Server, accepted: dict[str, int], data: Path, outcome: Round) -> None:
    listed = {task["task_id"]: task for task in _get(server, f"{_API}/tasks?limit=1000")["tasks"]}
    if listed.keys() != accepted.keys() or len(accepted) != TASKS:
        outcome.wrong.append(f"{len(accepted)} of {TASKS} tasks were accepted, {len(listed)} are there")
    for id, seconds in accepted.items():
        status = listed.get(id, {}).get("status")
        if status != "completed":
            outcome.wrong.append(f"{id} is {status}")
            continue
        outcome.attempts += listed[id]["attempts"]
        document = _get(server, f"{_API}/result/{id}")
        if (document["duration"], document["text"]) != (seconds, " ".join(f"w{n}" for n in range(seconds))):
            outcome.wrong.append(f"{id} of {seconds} s says {document['text']!r}")
    completed = _get(server, "/stats")["store"]["ever_completed"]
    if completed != len(accepted):
        outcome.wrong.append(f"{len(accepted)} tasks were completed {completed} times")
    if left := [path for part in ("spool", "tasks", "trash") for path in (data / part).iterdir()]:
        outcome.wrong.append(f"{len(left)} folders are left")


def _get(server: Server, path: str) -> Any:
    answer = requests.get(server.url + path, timeout=30)
    answer.raise_for_status()
    return answer.json()


def _recording(seconds: int) -> bytes:
    size = 32_000 * seconds
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16,
                       b"data", size)  # fmt: skip
    return head + bytes(size)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    began, servers, workers, wrong, attempts, orphans = time.monotonic(), 0, 0, 0, 0, 0
    for number in range(1, asked.rounds + 1):
        plan = [at_random(chance) for _ in range(chance.randint(1, 3))]
        with tempfile.TemporaryDirectory(prefix="diarserve-storm-") as folder:
            outcome = play(Path(folder), plan)
        servers, workers = servers + outcome.servers, workers + outcome.workers
        attempts, orphans = attempts + outcome.attempts, orphans + outcome.orphans
        wrong += bool(outcome.wrong or outcome.orphans)
        seen = "; ".join(outcome.wrong) or "all well"
        print(f"round {number}: {outcome.servers} servers and {outcome.workers} workers killed; {seen}", flush=True)
    tasks = asked.rounds * TASKS
    print(
        f"seed {asked.seed}: {asked.rounds} rounds, {servers} servers and {workers} workers killed, "
        f"{tasks} tasks, {attempts} attempts, {orphans} orphans, {wrong} rounds wrong, "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
