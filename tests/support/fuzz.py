"""Hostile recordings and requests, sent to one live server: it answers each with less than 500, loses no worker, and
holds afterwards what it held before.

`python -m tests.support.fuzz --count 10000` prints the answers, and the memory of every process before and after. Its
models do nothing, so that it ends soon, but for a share of the inputs (`--real`), for which they are the embedded ones.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.support import hostile_recordings, hostile_requests, mutate_wav
from tests.support.server import API
from tests.support.target import Holdings, Target, assert_nothing_is_left, under_attack
from tests.support.waiting import wait_until

STAND_INS = """
separate = false
[whisper]
engine = "tests.support.noop:Whisper"
[embedded]
engine = "tests.support.noop:Diarizer"
"""
REAL = "separate = false"
_AT_ONCE = 4
_PATIENCE = 300.0  # seconds for an answer, and for the tasks that were accepted


def wav_headers(url: str, count: int, seed: int) -> Counter[int]:
    """Send WAV files with damaged headers. How many answers had each status."""

    def status(upload: bytes) -> int:
        files = {"file": ("a.wav", upload)}
        return requests.post(f"{url}{API}/transcribe", files=files, timeout=_PATIENCE).status_code

    with ThreadPoolExecutor(_AT_ONCE) as clients:
        return Counter(clients.map(status, mutate_wav.damaged(count, seed)))


Run = Callable[[str, int, int], Counter[int]]
RUNS: Mapping[str, Run] = {
    "WAV headers": wav_headers,
    "recordings": hostile_recordings.run,
    "requests": hostile_requests.run,
}
RECORDINGS = {name: run for name, run in RUNS.items() if name != "requests"}


@dataclass(frozen=True)
class Outcome:
    answers: Mapping[str, Counter[int]]  # by kind of input
    restarts: Mapping[str, int]  # of workers, by lane
    before: Holdings
    after: Holdings

    @property
    def server_errors(self) -> int:
        return sum(count for answers in self.answers.values() for status, count in answers.items() if status >= 500)


def fuzz(folder: Path, counts: Mapping[str, int], seed: int, settings: str = STAND_INS) -> Outcome:
    """Send so many inputs of each kind. Raises AssertionError where something is left of them."""
    with under_attack(folder, settings=settings) as target:
        for name, count in counts.items():
            RUNS[name](target.server.url, min(count, 20), seed + 1)  # so that libraries are loaded and caches filled
        _wait_for_tasks(target)
        before = target.holdings()
        answers = {name: RUNS[name](target.server.url, count, seed) for name, count in counts.items()}
        _wait_for_tasks(target)
        after = assert_nothing_is_left(target, before)
        lanes = target.server.get("/stats")["lanes"]
        restarts = {name: sum(worker["restarts"] for worker in lane["workers"]) for name, lane in lanes.items()}
        return Outcome(answers, restarts, before, after)


def _wait_for_tasks(target: Target) -> None:
    def all_ended() -> bool:
        tasks = target.server.get("/stats")["store"]["tasks"]
        return not tasks["queued"] + tasks["processing"]

    wait_until(all_ended, _PATIENCE)


def report(title: str, outcome: Outcome) -> bool:
    """Whether all is well."""
    print(f"\n{title}")
    for name, answers in outcome.answers.items():
        print(f"  {name}: {answers.total()} inputs, " + ", ".join(f"{n} x {s}" for s, n in sorted(answers.items())))
    print(f"  answers of 500 and above: {outcome.server_errors}; workers lost: {dict(outcome.restarts)}")
    for process, size in outcome.after.memory.items():
        print(f"  {process}: {outcome.before.memory[process] / 2**20:.0f} -> {size / 2**20:.0f} MiB of RSS")
    held = [sum(holdings.descriptors.values()) for holdings in (outcome.before, outcome.after)]
    print(
        f"  descriptors: {held[0]} -> {held[1]}; processes: {outcome.before.processes} -> {outcome.after.processes}",
        flush=True,
    )
    return not outcome.server_errors and not any(outcome.restarts.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--real", type=int, default=300, help="of these, how many go through the embedded models")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began, well = time.monotonic(), True
    for title, settings, kinds, count in (
        ("models that do nothing", STAND_INS, RUNS, asked.count - asked.real),
        ("embedded models", REAL, RECORDINGS, asked.real),
    ):
        counts = {name: count // len(kinds) + (place < count % len(kinds)) for place, name in enumerate(kinds)}
        with tempfile.TemporaryDirectory(prefix="diarserve-fuzz-") as folder:
            well &= report(title, fuzz(Path(folder), counts, asked.seed, settings))
    print(f"\nseed {asked.seed}, {time.monotonic() - began:.0f} s")
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
