"""`make bench`: five minutes of real speech over HTTP, warm, beside the sequential baseline, in one run.

The limit is what the machine can do at all: the CPU seconds that our own workers spend, over the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import requests

from bench.recordings import speech, write_wav
from bench.server import Server, running

CORES = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="diarserve-bench-") as folder, running() as server:
        path = Path(folder, "speech.wav")
        write_wav(path, speech(60 * arguments.minutes))
        print(f"livez after {server.alive_after:.2f} s, readyz after {server.ready_after:.2f} s")
        command = [sys.executable, "-m", "bench.sequential"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as baseline:
            assert baseline.stdin is not None
            assert baseline.stdout is not None
            baseline.stdout.readline()  # "ready"
            ours(server, path)  # warm
            ratios = []
            print(
                f"{'run':<5}{'baseline':>10}{'= ASR':>8}{'+ diar.':>9}{'ours':>8}{'ratio':>8}{'overlap':>9}{'limit':>8}"
            )
            for run in range(arguments.runs):
                print(path, file=baseline.stdin, flush=True)
                parts = json.loads(baseline.stdout.readline())
                sequential = parts["transcribe"] + parts["diarize"]
                wall, cpu, overlap = ours(server, path)
                ratios.append(wall / sequential)
                print(
                    f"{run:<5}{sequential:>10.2f}{parts['transcribe']:>8.2f}{parts['diarize']:>9.2f}{wall:>8.2f}"
                    f"{ratios[-1]:>8.3f}{overlap:>9.2f}{cpu / CORES:>8.2f}"
                )
            baseline.stdin.close()
    spread = f"{min(ratios):.3f}-{max(ratios):.3f}"
    print(f"ours / baseline: median {statistics.median(ratios):.3f} ({spread}) on {CORES} cores")


def ours(server: Server, path: Path) -> tuple[float, float, float]:
    """Wall seconds of one request over HTTP, CPU seconds of the workers, and the models' overlap ratio."""
    pids = [worker["pid"] for lane in server.get("/stats")["lanes"].values() for worker in lane["workers"]]
    before = _cpu(pids)
    started = time.monotonic()
    with path.open("rb") as file:
        answer = requests.post(f"{server.url}/api/v1/parallel/transcribe", files={"file": file}, timeout=600)
    wall = time.monotonic() - started
    answer.raise_for_status()
    timings = answer.json()["performance"]
    # What the two models' times exceed their common wall by is the time in which both ran.
    both, shorter = (
        timings["transcription_time"] + timings["diarization_time"],
        min(timings["transcription_time"], timings["diarization_time"]),
    )
    overlap = (both - both / timings["speedup_estimate"]) / shorter
    return wall, _cpu(pids) - before, overlap


def _cpu(pids: list[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


if __name__ == "__main__":
    main()
