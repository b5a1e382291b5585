"""Kill the server and its workers at random moments. Every task that was accepted must end, once, with its own words.

Most rounds have the tests' stand-ins for engines, since it is the machinery around models that is tried; some have the
embedded models and real speech.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support.app import wav
from tests.support.callbacks import Callbacks, receiving
from tests.support.paths import REPOSITORY
from tests.support.recordings import clips
from tests.support.server import Server, running
from tests.support.waiting import wait_until

TASKS = 23
REAL_TASKS, REAL_SECONDS = 10, 4.0
_API = "/api/v1/parallel"
CONFIG = """
separate = false
[limits]
running = 3
attempts = 100
[webhooks]
allow_private = true
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


REAL = """
separate = false
[limits]
running = 3
attempts = 100
[webhooks]
allow_private = true
[whisper]
fill = false  # chunks of other recordings in a batch can turn an "Okay" into an "OK"
"""


@dataclass(frozen=True, slots=True)
class Recording:
    data: bytes
    seconds: float
    text: str  # what its document must say


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
    accepted: int = 0  # tasks
    right: int = 0  # ... that ended with their own words
    lost: int = 0  # ... that did not end, or whose callback was not made
    doubled: int = 0  # ... that ended twice, and tasks that nobody submitted
    repeated: int = 0  # callbacks made again, as their server was killed before it noted the answer
    attempts: int = 0  # of all tasks together
    orphans: int = 0  # processes that outlived their server


def play(folder: Path, kills: Sequence[Kill], recordings: Sequence[Recording] = (), config: str = CONFIG) -> Round:
    """Submit tasks, again after every kill until each is accepted, and let the last server finish them. No step of
    the stand-in for Whisper ends while there is a file "gate" in the folder."""
    recordings = recordings or [_silence(1 + number % 7) for number in range(TASKS)]
    file, data = folder / "config.toml", folder / "data"
    file.write_text(config.replace("{gate}", str(folder / "gate")))
    arguments = ["--config", str(file), "--data-dir", str(data)]
    environment = {"PYTHONPATH": str(REPOSITORY)}
    accepted: dict[str, Recording] = {}  # by task
    outcome = Round([])
    with receiving() as callbacks:
        for kill in [*kills, None]:
            with ThreadPoolExecutor(1) as pool, running(environment, arguments=arguments) as server:
                killing = pool.submit(kill, server) if kill else None
                try:
                    _submit(server, recordings, accepted, callbacks.url)
                    _wait(server)
                    if kill is None:
                        _check(server, accepted, callbacks, outcome)
                        _look_for_leftovers(server, data, outcome)
                except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                    if kill is None:
                        outcome.wrong.append("the last server, which nobody killed, went away")
                if killing:
                    killed = killing.result()  # raises what kept it from killing
                    outcome.servers, outcome.workers = outcome.servers + 1, outcome.workers + killed.workers
                    outcome.orphans += len(psutil.wait_procs(killed.family, timeout=10)[1])
    if len(accepted) != len(recordings):
        outcome.wrong.append(f"{len(accepted)} of {len(recordings)} tasks were accepted")
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


def _submit(server: Server, recordings: Sequence[Recording], accepted: dict[str, Recording], callback_url: str) -> None:
    """Submit what has not been accepted. A key makes up for answers that were lost."""
    for number in range(len(accepted), len(recordings)):
        answer = requests.post(
            f"{server.url}{_API}/transcribe/async",
            files={"file": (f"{number}.wav", recordings[number].data)},
            data={"callback_url": callback_url},
            headers={"Idempotency-Key": str(number), "Prefer": "respond-async"},
            timeout=60,
        )
        answer.raise_for_status()
        accepted[answer.json()["task_id"]] = recordings[number]


def _wait(server: Server, limit: float = 120.0) -> None:
    """Until every task has ended."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        tasks = _get(server, "/stats")["store"]["tasks"]
        if not tasks["queued"] + tasks["processing"]:
            return
        time.sleep(0.05)


def _check(server: Server, accepted: Mapping[str, Recording], callbacks: Callbacks, outcome: Round) -> None:
    with suppress(AssertionError):  # the tasks that have none are counted
        wait_until(lambda: callbacks.bodies.keys() >= accepted.keys())
    listed = {task["task_id"]: task for task in _get(server, f"{_API}/tasks?limit=1000")["tasks"]}
    for id, recording in accepted.items():
        outcome.accepted += 1
        status, told = listed.get(id, {}).get("status"), callbacks.bodies.get(id, [])
        if status != "completed" or not told:
            outcome.lost += 1
            outcome.wrong.append(f"{id} is {status}, with {len(told)} callbacks")
            continue
        outcome.attempts += listed[id]["attempts"]
        outcome.doubled += len(set(told)) - 1
        outcome.repeated += len(told) - len(set(told))
        document = _get(server, f"{_API}/result/{id}")
        if (document["duration"], document["text"]) == (recording.seconds, recording.text):
            outcome.right += 1
        else:
            outcome.wrong.append(f"{id} says {document['text']!r}, not {recording.text!r}")
    ended = _get(server, "/stats")["store"]["ever_completed"]
    outcome.doubled += len(listed.keys() - accepted.keys()) + max(0, ended - len(accepted))
    if outcome.doubled:
        outcome.wrong.append(f"{len(accepted)} tasks: {len(listed)} are listed, {ended} ended")


def _look_for_leftovers(server: Server, data: Path, outcome: Round) -> None:
    left = [path for part in ("spool", "tasks", "trash") for path in (data / part).iterdir()]
    if left:
        outcome.wrong.append(f"{len(left)} folders are left")
    if held := [lane for lane in _get(server, "/stats")["lanes"].values() if any(w["jobs"] for w in lane["workers"])]:
        outcome.wrong.append(f"workers of {len(held)} lanes hold jobs")


def _get(server: Server, path: str) -> Any:
    answer = requests.get(server.url + path, timeout=30)
    answer.raise_for_status()
    return answer.json()


def _silence(seconds: int) -> Recording:
    """The stand-in for Whisper hears a word in every second."""
    return Recording(wav(seconds), seconds, " ".join(f"w{n}" for n in range(seconds)))


def speech(folder: Path, count: int, seconds: float) -> list[Recording]:
    """Real speech, with what a server that nobody kills makes of it."""
    paths = clips(folder, count, seconds)
    file = folder / "undisturbed.toml"
    file.write_text(REAL)
    with running(arguments=["--config", str(file)]) as server:
        documents = [server.transcribe(path) for path in paths]
    return [
        Recording(path.read_bytes(), document["duration"], document["text"])
        for path, document in zip(paths, documents, strict=True)
    ]


def storm(name: str, servers: int, workers: int, play_round: Callable[[Path], Round]) -> Round:
    """Rounds, until so many servers and workers are killed; all of them together."""
    total = Round([])
    while total.servers < servers or total.workers < workers:
        with tempfile.TemporaryDirectory(prefix="diarserve-storm-") as folder:
            outcome = play_round(Path(folder))
        seen = "; ".join(outcome.wrong) or "all well"
        print(f"{name}: {outcome.servers} servers and {outcome.workers} workers killed; {seen}", flush=True)
        for field in fields(Round):
            setattr(total, field.name, getattr(total, field.name) + getattr(outcome, field.name))
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=30, help="to be killed, at least")
    parser.add_argument("--workers", type=int, default=30, help="to be killed, at least")
    parser.add_argument("--real", type=int, default=0, help="of each, that run the embedded models")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    chance, began, rows = random.Random(asked.seed), time.monotonic(), dict[str, Round]()

    def plan() -> list[Kill]:
        return [at_random(chance) for _ in range(chance.randint(1, 4))]

    if asked.real:
        with tempfile.TemporaryDirectory(prefix="diarserve-storm-") as folder:
            recordings = speech(Path(folder), REAL_TASKS, REAL_SECONDS)
        rows["embedded models"] = storm(
            "embedded models", asked.real, asked.real, lambda folder: play(folder, plan(), recordings, REAL)
        )
    done = rows.get("embedded models", Round([]))
    rows["stand-ins"] = storm(
        "stand-ins", asked.servers - done.servers, asked.workers - done.workers, lambda folder: play(folder, plan())
    )
    columns = ("servers", "workers", "accepted", "right", "lost", "doubled", "repeated", "attempts", "orphans")
    print(f"\nseed {asked.seed}, {time.monotonic() - began:.0f} s")
    print(" " * 18 + "".join(f"{column:>10}" for column in columns))
    for name, row in rows.items():
        print(f"{name:<18}" + "".join(f"{getattr(row, column):>10}" for column in columns))
    return int(any(row.wrong or row.orphans for row in rows.values()))


if __name__ == "__main__":
    raise SystemExit(main())
