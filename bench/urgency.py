"""`make urgency`: a short clip behind a long recording, and how soon a cancelled task frees both workers."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import psutil
import requests

from tests.support.recordings import speech, write_wav
from tests.support.server import Server, running

API = "/api/v1/parallel"

WRITING = 10.0  # per cent of transcribing, which begin with a look for speech


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="diarserve-bench-") as folder, running() as server:
        clip, ten, twenty = (Path(folder, f"{name}.wav") for name in ("clip", "ten", "twenty"))
        write_wav(clip, speech(17)[-160_000:])  # ten seconds of the sample's talk
        write_wav(ten, speech(600))
        write_wav(twenty, speech(1200))
        for _ in range(2):
            ask(server, clip)  # warm
        alone = [ask(server, clip) for _ in range(5)]
        print(f"10 s clip, idle server:      {show(alone)}")

        long = submit(server, twenty)
        under_way(server, long)
        behind = [ask(server, clip) for _ in range(5)]
        status = server.get(f"{API}/status/{long}")["status"]
        print(f"behind a 20-minute file:     {show(behind)}, the file then at {status['progress']} %")
        print(f"ratio of medians:            {statistics.median(behind) / statistics.median(alone):.2f}")
        assert status["status"] == "processing"
        print(f"cancel of the 20-minute file: both workers idle after {cancel(server, long):.2f} s")

        task = submit(server, ten)
        under_way(server, task)
        print(f"cancel of a 10-minute task:  both workers idle after {cancel(server, task):.2f} s")


def ask(server: Server, path: Path) -> float:
    """Seconds of one request whose client waits; its priority is high."""
    started = time.monotonic()
    with path.open("rb") as file:
        requests.post(f"{server.url}{API}/transcribe", files={"file": file}, timeout=600).raise_for_status()
    return time.monotonic() - started


def submit(server: Server, path: Path) -> str:
    with path.open("rb") as file:
        answer = requests.post(f"{server.url}{API}/transcribe/async", files={"file": file}, timeout=600)
    answer.raise_for_status()
    id: str = answer.json()["task_id"]
    return id


def under_way(server: Server, task: str) -> None:
    """Wait until Whisper writes, beyond its first look for speech, while the diarizer works as well."""
    while True:
        stages = server.get(f"{API}/status/{task}")["status"]["stages"]
        if stages["transcribe"] > WRITING and stages["diarize"] > 0:
            return
        time.sleep(0.05)


def cancel(server: Server, task: str) -> float:
    """Seconds from the request until neither model's process has used the CPU for 0.3 s; those not counted."""
    lanes = server.get("/stats")["lanes"]
    workers = [psutil.Process(worker["pid"]) for name in ("whisper", "embedded") for worker in lanes[name]["workers"]]
    started = last = time.monotonic()
    requests.delete(f"{server.url}{API}/tasks/{task}", timeout=60).raise_for_status()
    before = -1.0
    while time.monotonic() - last < 0.3:
        used = sum(sum(worker.cpu_times()[:2]) for worker in workers)
        if used > before:
            before, last = used, time.monotonic()
        time.sleep(0.02)
    return last - started


def show(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s ({min(seconds):.2f}-{max(seconds):.2f})"


if __name__ == "__main__":
    main()
