"""What an hour of audio costs by model, for the table in docs/operating.md: python -m bench.sizing [--write]

CPU seconds rather than time: they tell what a machine with more cores does, and other programs change them little.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from bench.results import CORES, arguments, publish, table
from tests.support.recordings import clips, speech, write_wav
from tests.support.server import Server, running

MODELS: Mapping[str, dict[str, str]] = {
    "tiny.en (the default)": {},
    "tiny.en, accuracy = high": {"DIARSERVE_EMBEDDED_ACCURACY": "high"},
    "base (multilingual)": {"DIARSERVE_WHISPER_MODEL": "embedded-multilingual"},
}  # what is set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="of the long recording; as much in clips of 30 s")
    asked = arguments(parser)
    with tempfile.TemporaryDirectory(prefix="diarserve-bench-") as folder:
        rows = {name: measure(Path(folder), given, asked.minutes) for name, given in MODELS.items()}
    publish("sizing", "Cost by model", report(rows, asked.minutes), {"rows": rows}, asked)


def measure(folder: Path, environment: dict[str, str], minutes: float) -> dict[str, Any]:
    long, warm = folder / "long.wav", folder / "warm.wav"
    write_wav(long, speech(60 * minutes))
    write_wav(warm, speech(30))
    short = clips(folder, round(2 * minutes), 30.0)
    with running(environment) as server:
        server.transcribe(warm)
        costs = {}
        for name, work in (("long", [long]), ("clips", short)):
            before, began = server.cpu(), time.monotonic()
            server.transcribe_at_once(work)
            seconds = time.monotonic() - began
            after = server.cpu()
            costs[name] = {
                "seconds": seconds,
                "cpu": sum(after.values()) - sum(before.values()),
                "by_process": {lane: after[lane] - before[lane] for lane in after},
            }
        return {**costs, "memory_gib": sum(resident(server).values())}


def resident(server: Server) -> dict[str, float]:
    """GiB of each process: its own pages, and its share of what it has in common with others."""
    processes = {"server": [server.pid], **server.workers()}
    return {
        name: sum(psutil.Process(pid).memory_full_info().pss for pid in pids) / 2**30
        for name, pids in processes.items()
    }


def report(rows: Mapping[str, Any], minutes: float) -> str:
    audio = 60 * minutes
    head = ["model", "CPU s per audio s", "of clips of 30 s", "audio hours per core and hour",
            "clips of 30 s per core and hour", "here, audio s per s", "memory GiB"]  # fmt: skip
    lines = [
        [
            name,
            f"{row['long']['cpu'] / audio:.4f}",
            f"{row['clips']['cpu'] / audio:.4f}",
            f"{audio / row['long']['cpu']:.1f}",
            f"{3600 / (30 * row['clips']['cpu'] / audio):.0f}",
            f"{audio / row['long']['seconds']:.1f}",
            f"{row['memory_gib']:.2f}",
        ]
        for name, row in rows.items()
    ]
    load = psutil.getloadavg()[2]
    print(f"load of the last 15 minutes: {load:.1f}", file=sys.stderr)
    return (
        f"One recording of {minutes:g} minutes, then as much in clips of 30 s at once; {CORES} cores, whose load over "
        f"15 minutes was {load:.1f}. Memory is the proportional set size of all processes afterwards.\n\n"
        + table(head, lines)
    )


if __name__ == "__main__":
    main()
