"""Two servers over one PostgreSQL and one S3 server: they are killed, stopped for longer than their lease, cut off from
the network, and lose workers, at random moments. Every task that was accepted must end, once, with its own words, and
be called back. Servers are cut off where they can have network namespaces of their own: tests/support/network.py.

Engines are the tests' stand-ins, since it is the machinery around models that is tried.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support import postgresql, s3
from tests.support.app import wav
from tests.support.callbacks import Callbacks, receiving
from tests.support.network import Machine, Network, joined, missing
from tests.support.paths import REPOSITORY
from tests.support.postgresql import Postgresql
from tests.support.s3 import S3
from tests.support.server import Server, running
from tests.support.waiting import wait_until

LEASE = 2.0  # seconds
_API = "/api/v1/parallel"
_CONFIG = """
separate = false
[store]
objects = "{objects}"
lease_seconds = {lease}
[limits]
running = 3
attempts = 100
reserve_mib = 0
[webhooks]
allow_private = true
[decode]
engine = "tests.support.standins:Copier"
[whisper]
engine = "tests.support.standins:Whisper"
step_seconds = {step}
[embedded]
engine = "tests.support.standins:Diarizer"
step_seconds = 0.02
"""
_GONE = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class Member:
    """One of the servers, which comes back with the same data directory."""

    def __init__(self, folder: Path, config: Path, database: Postgresql, machine: Machine | None = None) -> None:
        """machine: where it runs, if not here."""
        self._environment = {"PYTHONPATH": str(REPOSITORY), "DIARSERVE_STORE_URL": database.url}
        self._arguments = ["--config", str(config), "--data-dir", str(folder)]
        self._process = ExitStack()
        self.machine = machine
        self.folder = folder
        self.server: Server | None = None

    def start(self) -> None:
        self.server = self._process.enter_context(
            running(self._environment, arguments=self._arguments, machine=self.machine)
        )

    def kill(self) -> int:
        """With SIGKILL. How many of its processes outlive it."""
        assert self.server
        process = psutil.Process(self.server.pid)
        process.suspend()  # so that it starts no worker unseen
        family = process.children(recursive=True)
        process.kill()
        self.server = None
        left = psutil.wait_procs(family, timeout=10)[1]
        self._process.close()
        return len(left)

    def stop(self) -> None:
        """In an orderly way."""
        self.server = None
        self._process.close()

    def pause(self, seconds: float) -> None:
        """As if the machine were cut off, or thrashing: what it then does comes too late."""
        assert self.server
        os.kill(self.server.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.server.pid, signal.SIGCONT)

    def cut_off(self, seconds: float) -> None:
        """From the database, the object store, clients and the other server. Nothing that is sent arrives."""
        assert self.machine
        self.machine.cut()
        time.sleep(seconds)
        self.machine.mend()

    def kill_worker(self, chance: random.Random) -> None:
        assert self.server
        pids = [pid for lane in self.server.workers().values() for pid in lane]
        with suppress(ProcessLookupError, IndexError):
            os.kill(chance.choice(pids), signal.SIGKILL)


@dataclass(slots=True)
class Outcome:
    done: Counter[str] = field(default_factory=Counter)  # to the servers
    accepted: dict[str, int] = field(default_factory=dict)  # tasks, with the seconds of their recordings
    right: int = 0  # ... that ended with their own words
    lost: int = 0  # ... that did not end, or whose callback was not made
    doubled: int = 0  # ... that ended twice, and tasks that nobody submitted
    repeated: int = 0  # callbacks made again, as their server was killed before it noted the answer
    attempts: int = 0  # of all tasks together
    orphans: int = 0  # processes that outlived their server
    wrong: list[str] = field(default_factory=list)


def play(
    tasks: int,
    harm: Callable[[list[Member], Outcome], bool],
    database: Postgresql,
    bucket: S3,
    network: Network | None = None,
    *,
    kills: int = 0,
    step: float = 0.05,
) -> Outcome:
    """Submit so many tasks to both servers in turn, while `harm` is done to them, until it says that it is enough and
    all tasks are accepted; then let them finish. kills: of servers, over which the tasks are spread. step: seconds of
    work for each second of a recording."""
    outcome = Outcome()
    here = network.here if network else "127.0.0.1"
    with tempfile.TemporaryDirectory(prefix="diarserve-storm-") as name, receiving(here) as callbacks:
        folder = Path(name)
        config = folder / "config.toml"
        config.write_text(_CONFIG.format(objects=f"{bucket.url}/{folder.name}", lease=LEASE, step=step))
        machines = network.machines if network else (None, None)
        members = [Member(folder / f"server {at}", config, database, each) for at, each in enumerate(machines)]
        try:
            starting = [threading.Thread(target=member.start) for member in members]
            for thread in starting:
                thread.start()
            for thread in starting:
                thread.join()
            submitting = threading.Thread(target=_submit, args=(members, tasks, outcome, callbacks.url, kills))
            submitting.start()
            while harm(members, outcome) or submitting.is_alive():
                pass
            submitting.join()
            _check(members, callbacks, outcome)
        finally:
            for member in members:
                member.stop()
    return outcome


def _submit(members: list[Member], tasks: int, outcome: Outcome, callback_url: str, kills: int) -> None:
    """A key makes up for answers that were lost."""
    turn = cycle(members)
    for number in range(tasks):
        while number * kills > tasks * (outcome.done["killed"] + 1):
            time.sleep(0.05)
        seconds = 1 + number % 7
        while True:
            try:
                server = next(turn).server
                if server is None:
                    raise requests.ConnectionError
                answer = requests.post(
                    f"{server.url}{_API}/transcribe/async",
                    files={"file": (f"{number}.wav", wav(seconds))},
                    data={"callback_url": callback_url},
                    headers={"Idempotency-Key": str(number), "Prefer": "respond-async"},
                    timeout=10,
                )
            except _GONE:
                time.sleep(0.05)
                continue
            if answer.status_code == 202:
                break
            if answer.status_code not in (429, 503):
                outcome.wrong.append(f"task {number} was answered {answer.status_code}: {answer.text}")
                return
        outcome.accepted[answer.json()["task_id"]] = seconds


def _check(all_members: list[Member], callbacks: Callbacks, outcome: Outcome) -> None:
    members = [member for member in all_members if member.server]
    with suppress(AssertionError):  # what has not ended is counted as lost
        wait_until(lambda: _unfinished(members) == 0, limit=120)
        wait_until(lambda: callbacks.bodies.keys() >= outcome.accepted.keys())
    lists = [_get(member, f"{_API}/tasks?limit=1000")["tasks"] for member in members]
    if any(other != lists[0] for other in lists):
        outcome.wrong.append("the servers list different tasks")
    listed = {task["task_id"]: task for task in lists[0]}
    turn = cycle(members)
    for id, seconds in outcome.accepted.items():
        told = callbacks.bodies.get(id, [])
        if listed.get(id, {}).get("status") != "completed" or not told:
            outcome.lost += 1
            outcome.wrong.append(f"{id} is {listed.get(id)}, with {len(told)} callbacks")
            continue
        outcome.attempts += listed[id]["attempts"]
        outcome.doubled += len(set(told)) - 1
        outcome.repeated += len(told) - len(set(told))
        document = _get(next(turn), f"{_API}/result/{id}")
        outcome.right += document["text"] == " ".join(f"w{second}" for second in range(seconds))
    ended = _get(members[0], "/stats")["store"]["ever_completed"]
    outcome.doubled += len(listed.keys() - outcome.accepted.keys()) + max(0, ended - len(outcome.accepted))
    if outcome.right != len(outcome.accepted) or outcome.doubled:
        outcome.wrong.append(f"{len(outcome.accepted)} accepted, {outcome.right} right, {ended} ended")
    with suppress(AssertionError):
        wait_until(lambda: not _left(members), limit=10)
    if left := _left(members):
        outcome.wrong.append(f"{len(left)} folders are left")


def _unfinished(members: list[Member]) -> int:
    tasks = _get(members[0], "/stats")["store"]["tasks"]
    return int(tasks["queued"] + tasks["processing"])


def _left(members: list[Member]) -> list[Path]:
    return [path for member in members for part in ("spool", "tasks") for path in (member.folder / part).iterdir()]


def _get(member: Member, path: str) -> Any:
    assert member.server
    answer = requests.get(member.server.url + path, timeout=30)
    answer.raise_for_status()
    return answer.json()


def at_random(chance: random.Random, times: int) -> Callable[[list[Member], Outcome], bool]:
    """To one of the servers, or its workers, every one to three seconds, until a server was killed so many times."""

    def harm(members: list[Member], outcome: Outcome) -> bool:
        if outcome.done["killed"] >= times:
            time.sleep(0.1)
            return False
        time.sleep(chance.uniform(0.5, 2.5))
        member = chance.choice(members)
        kinds = {"killed": 5, "paused": 2, "worker killed": 3, "cut off": 4 if member.machine else 0}
        kind = chance.choices(list(kinds), list(kinds.values()))[0]
        outcome.done[kind] += 1
        if kind == "killed":
            outcome.orphans += member.kill()
            time.sleep(chance.uniform(0, 1.5 * LEASE))  # back before its lease has ended, or after
            member.start()
        elif kind == "paused":
            member.pause(chance.uniform(1.2, 2.5) * LEASE)
        elif kind == "cut off":  # for less than its lease, for longer, or until its connections are given up
            member.cut_off(chance.choice((0.5, 2.5, 10.0)) * LEASE)
        else:
            with suppress(OSError):
                member.kill_worker(chance)
        return True

    return harm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20, help="of servers")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    began = time.monotonic()
    with ExitStack() as stack:
        network = None
        if why := missing():
            print(f"no server is cut off: {why}")
        else:
            network = stack.enter_context(joined(2))
        database = stack.enter_context(postgresql.running(*(network.here, network.addresses) if network else ()))
        bucket = stack.enter_context(s3.running(network.here) if network else s3.running())
        harm = at_random(random.Random(asked.seed), asked.kills)
        outcome = play(asked.tasks, harm, database, bucket, network, kills=asked.kills, step=0.3)
    print(f"seed {asked.seed}, {time.monotonic() - began:.0f} s; {dict(outcome.done)}")
    shown = ("right", "lost", "doubled", "repeated", "attempts", "orphans")
    print("  ".join([f"accepted {len(outcome.accepted)}", *(f"{name} {getattr(outcome, name)}" for name in shown)]))
    for problem in outcome.wrong:
        print(problem)
    return int(bool(outcome.wrong or outcome.orphans))


if __name__ == "__main__":
    raise SystemExit(main())
