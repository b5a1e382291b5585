"""`make scaling`: recordings of one minute to four hours, one to sixteen clients, and a short clip behind a long job.

Every figure is kept as soon as it is there (with --write), and those not asked for now stay: a break costs one row.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import requests

from bench.results import FOLDER, arguments, machine, percentile, publish, spread, table, verdict
from bench.urgency import submit, under_way
from tests.support.recordings import clips, speech, write_wav
from tests.support.server import API, Server, running

Rows = dict[str, dict[str, Any]]  # by what was varied: minutes, or clients
GIB = 2**30
BLOCK = 20  # minutes of speech that longer recordings repeat
REFERENCE = "5"  # minutes that longer recordings are compared with


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 5, 20, 60], help="240 takes long")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--requests", type=int, default=16, help="30 s clips for each number of clients, at least")
    parser.add_argument("--behind", type=float, nargs="*", default=[60], help="minutes of jobs that a clip overtakes")
    asked = arguments(parser)
    kept = FOLDER / "results" / "scaling.json"
    figures = json.loads(kept.read_text()) if kept.exists() else {}
    parts: dict[str, Rows] = {name: figures.get(name, {}) for name in ("minutes", "clients", "behind")}
    here = machine()
    when = {"date": here["date"], "commit": here["commit"]}
    with tempfile.TemporaryDirectory(prefix="diarserve-bench-") as folder:
        for minutes in asked.minutes:
            parts["minutes"][f"{minutes:g}"] = length(Path(folder), minutes) | when
            keep(parts, asked)
        for clients in asked.clients:
            count = max(asked.requests, 2 * clients)
            parts["clients"][str(clients)] = crowd(Path(folder), clients, count) | when
            keep(parts, asked)
        for minutes in asked.behind:
            parts["behind"][f"{minutes:g}"] = behind(Path(folder), minutes) | when
            keep(parts, asked)


def keep(parts: dict[str, Rows], asked: argparse.Namespace) -> None:
    for name, rows in parts.items():
        parts[name] = dict(sorted(rows.items(), key=lambda row: float(row[0])))
    publish("scaling", "Length and number of recordings", report(parts), parts, asked)


def length(folder: Path, minutes: float) -> dict[str, Any]:
    """One recording of that length on a server of its own, warm."""
    path, warm = folder / "long.wav", folder / "warm.wav"
    write_wav(path, speech(60 * min(minutes, BLOCK)), max(minutes / BLOCK, 1))
    write_wav(warm, speech(30))
    with running() as server:
        server.transcribe(warm)
        before, began = server.cpu(), time.monotonic()
        document = server.transcribe(path)
        seconds = time.monotonic() - began
        spent = {name: after - before[name] for name, after in server.cpu().items()}
        peaks = {
            name: max(map(peak, pids), default=0) for name, pids in {"server": [server.pid], **server.workers()}.items()
        }
    print(f"{minutes:g} minutes: {seconds:.1f} s", file=sys.stderr)
    return {"seconds": seconds, "words": len(document["text"].split()), "speakers": len(document["speakers"]),
            "peak_rss": peaks, "cpu": spent}  # fmt: skip


def crowd(folder: Path, clients: int, count: int) -> dict[str, Any]:
    """So many clients, each asking again as soon as it has its answer, until `count` clips are done."""
    paths = clips(folder, 10, 30.0)
    with running() as server, ThreadPoolExecutor(clients) as pool:
        server.transcribe(paths[0])
        before, began = server.cpu(), time.monotonic()
        times = list(pool.map(lambda path: timed(server, path), islice(cycle(paths), count)))
        wall = time.monotonic() - began
        spent = {name: after - before[name] for name, after in server.cpu().items()}
    print(f"{clients} clients: {count / wall:.2f} clips/s", file=sys.stderr)
    return {"seconds": times, "wall": wall, "cpu": spent, "audio_per_second": 30.0 * count / wall}


def behind(folder: Path, minutes: float) -> dict[str, Any]:
    """A 10 s clip alone, and while a long recording is worked on."""
    clip, long = folder / "clip.wav", folder / "long.wav"
    write_wav(clip, speech(17)[-160_000:])  # ten seconds of the sample's talk
    write_wav(long, speech(60 * min(minutes, BLOCK)), max(minutes / BLOCK, 1))
    with running() as server:
        timed(server, clip)
        alone = [timed(server, clip) for _ in range(7)]
        task = submit(server, long)
        under_way(server, task)
        behind = [timed(server, clip) for _ in range(7)]
        status = server.get(f"{API}/status/{task}")["status"]
        requests.delete(f"{server.url}{API}/tasks/{task}", timeout=60).raise_for_status()
    if status["status"] != "processing":
        raise RuntimeError(f"the long recording was {status['status']}: the clip did not overtake it")
    return {"alone": alone, "behind": behind, "progress": status["progress"]}


def timed(server: Server, path: Path) -> float:
    began = time.monotonic()
    server.transcribe(path)
    return time.monotonic() - began


def peak(pid: int) -> int:
    """The most bytes a process has had in memory so far, those of the recording that it maps included."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def report(parts: Mapping[str, Rows]) -> str:
    written = (("minutes", lengths), ("clients", crowds), ("behind", overtakings))
    return "\n\n".join(write(parts[name]) for name, write in written if parts[name])


def lengths(rows: Rows) -> str:
    names = list(next(iter(rows.values()))["peak_rss"])
    rates = {minutes: row["seconds"] / float(minutes) for minutes, row in rows.items()}
    linear = {minutes: rate / rates[REFERENCE] for minutes, rate in rates.items()} if REFERENCE in rates else {}
    head = ["minutes", "seconds", "s per audio minute", f"of {REFERENCE} minutes' rate", "words", "speakers"]
    cells = [
        [
            minutes,
            f"{row['seconds']:.1f}",
            f"{rates[minutes]:.2f}",
            f"{linear[minutes]:.2f}" if minutes in linear else "",
            row["words"],
            row["speakers"],
            *(f"{row['peak_rss'][name] / GIB:.2f}" for name in names),
        ]
        for minutes, row in rows.items()
    ]
    longest = list(rows)[-1]
    largest = max(size for name, size in rows[longest]["peak_rss"].items() if name != "server")
    lines = [verdict(f"largest worker at {longest} minutes, GiB", largest / GIB, 4, most=True)]
    if longest in linear and longest != REFERENCE:
        lines.append(verdict(f"{longest} minutes against linear", linear[longest], 1.1, most=True))
    return table([*head, *(f"{name} peak RSS GiB" for name in names)], cells) + "\n\n" + "\n".join(lines)


def crowds(rows: Rows) -> str:
    cells = [
        [
            clients,
            len(row["seconds"]),
            f"{len(row['seconds']) / row['wall']:.2f}",
            f"{row['audio_per_second']:.1f}",
            *(f"{percentile(row['seconds'], share):.2f}" for share in (0.5, 0.95, 1.0)),
        ]
        for clients, row in rows.items()
    ]
    return table(("clients", "clips of 30 s", "clips/s", "audio s per s", "p50 s", "p95 s", "max s"), cells)


def overtakings(rows: Rows) -> str:
    ratios = [statistics.median(row["behind"]) / statistics.median(row["alone"]) for row in rows.values()]
    cells = [
        [minutes, spread(row["alone"]), spread(row["behind"]), f"{ratio:.2f}", f"{row['progress']:g} %"]
        for (minutes, row), ratio in zip(rows.items(), ratios, strict=True)
    ]
    lines = [
        verdict(f"10 s clip behind {minutes} minutes, against alone", ratio, 3, most=True)
        for minutes, ratio in zip(rows, ratios, strict=True)
    ]
    head = ("10 s clip behind a job of, minutes", "alone s", "behind s", "ratio of medians", "job then at")
    return table(head, cells) + "\n\n" + "\n".join(lines)


if __name__ == "__main__":
    main()
