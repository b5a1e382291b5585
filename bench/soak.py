"""`make soak`: half an hour at full load, with clients of every kind, and a worker killed every minute.

Every five seconds memory, descriptors and latencies go to bench/results/soak.csv, so that a break costs nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import os
import random
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import psutil

from bench import plots
from bench.results import FOLDER, arguments, percentile, publish, table
from bench.soak_clients import KINDS, Answer, Clients
from tests.support.recordings import clips
from tests.support.server import Server, running

EVERY = 5.0  # seconds between two samples
SETTLED = 45.0  # seconds of a worker's life whose growth is that of filling caches
CLIENTS = dict.fromkeys(KINDS, 1) | {"wait": 2}


@dataclass(frozen=True, slots=True)
class Sample:
    at: float  # seconds since the start
    process: str  # "server", or a lane
    pid: int
    rss: int  # bytes
    descriptors: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each recording")
    parser.add_argument("--kill-every", type=float, default=60.0, help="seconds between two kills of a worker")
    parser.add_argument("--seed", type=int, default=0)
    asked = arguments(parser)
    with tempfile.TemporaryDirectory(prefix="diarserve-soak-") as name:
        folder = Path(name)
        recordings = [path.read_bytes() for path in clips(folder, 12, asked.seconds)]
        with running(arguments=["--data-dir", str(folder / "data")]) as server:
            answers, samples, kills = asyncio.run(_soak(server, recordings, asked))
            left = [path.name for part in ("spool", "tasks") for path in (folder / "data" / part).iterdir()]
    data = {
        "answers": [asdict(answer) for answer in answers],
        "samples": [asdict(sample) for sample in samples],
        "kills": kills,
        "left": left,
    }
    publish("soak", f"Soak: {asked.minutes:g} minutes", report(answers, samples, kills, left), data, asked)
    if asked.write:
        print(plots.draw(FOLDER / "results" / "soak.json", FOLDER / "plots"))


async def _soak(
    server: Server, recordings: Sequence[bytes], asked: argparse.Namespace
) -> tuple[list[Answer], list[Sample], list[float]]:
    began = time.monotonic()
    samples: list[Sample] = []
    kills: list[float] = []
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(server.url, connector=connector, timeout=timeout) as session:
        clients = Clients(session, recordings, asked.seed)
        load = asyncio.create_task(clients.run(CLIENTS))
        others = [
            asyncio.create_task(_sample(server, clients, began, samples)),
            asyncio.create_task(_kill(server, asked.kill_every, random.Random(asked.seed), began, kills)),
        ]
        await asyncio.wait([load, *others], timeout=60 * asked.minutes, return_when=asyncio.FIRST_EXCEPTION)
        for task in (load, *others):
            task.cancel()
        for result in await asyncio.gather(load, *others, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result
        await asyncio.to_thread(_wait_for_tasks, server)
    return clients.answers, samples, kills


async def _sample(server: Server, clients: Clients, began: float, samples: list[Sample]) -> None:
    (FOLDER / "results").mkdir(exist_ok=True)
    with (FOLDER / "results" / "soak.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["at", "process", "pid", "rss", "descriptors", "answers", "errors", *CLIENTS])
        while True:
            now = time.monotonic() - began
            workers = await asyncio.to_thread(server.workers)
            recent = [answer for answer in clients.answers if answer.at + answer.seconds > now - 60]
            medians = [_median([answer.seconds for answer in recent if answer.kind == kind]) for kind in CLIENTS]
            errors = sum(answer.error is not None for answer in clients.answers)
            for process, pids in {"server": [server.pid], **workers}.items():
                for pid in pids:
                    with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                        rss, held = psutil.Process(pid).memory_info().rss, len(os.listdir(f"/proc/{pid}/fd"))
                        samples.append(Sample(now, process, pid, rss, held))
                        table.writerow([f"{now:.1f}", process, pid, rss, held, len(clients.answers), errors, *medians])
            file.flush()
            await asyncio.sleep(EVERY)


async def _kill(server: Server, every: float, chance: random.Random, began: float, kills: list[float]) -> None:
    while True:
        await asyncio.sleep(every)
        pids = [pid for lane in (await asyncio.to_thread(server.workers)).values() for pid in lane]
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(chance.choice(pids), signal.SIGKILL)
            kills.append(time.monotonic() - began)


def _wait_for_tasks(server: Server) -> None:
    """What the clients left behind when they were cancelled is done, too."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        tasks = server.get("/stats")["store"]["tasks"]
        if not tasks["queued"] + tasks["processing"]:
            return
        time.sleep(0.5)
    raise RuntimeError("the tasks do not end")


def report(answers: Sequence[Answer], samples: Sequence[Sample], kills: Sequence[float], left: Sequence[str]) -> str:
    kinds = table(
        ["clients", "answers", "errors", "median s", "p95 s", "last third / first third"],
        [[kind, *_latency([answer for answer in answers if answer.kind == kind])] for kind in CLIENTS],
    )
    processes = table(
        ["process", "lives", "RSS MiB, first", "last", "most", "slope KB/min"],
        [[name, *_growth([sample for sample in samples if sample.process == name])] for name in _names(samples)],
    )
    held = [sample.descriptors for sample in samples if sample.process == "server"]
    errors = sorted({f"{answer.kind}: {answer.error}" for answer in answers if answer.error})
    return (
        f"{kinds}\n\n{processes}\n\nThe slope is that of the second half, within a worker's life after its first "
        f"{SETTLED:g} s.\n\n- workers killed: {len(kills)}\n- descriptors of the server, median of the first and the "
        f"last third: {_median(held[: len(held) // 3])}, {_median(held[-(len(held) // 3) :])}\n"
        f"- folders left: {len(left)}\n- errors: {sum(answer.error is not None for answer in answers)}"
        + "".join(f"\n  - {error}" for error in errors[:10])
    )


def _names(samples: Sequence[Sample]) -> list[str]:
    return list(dict.fromkeys(sample.process for sample in samples))


def _latency(answers: Sequence[Answer]) -> list[object]:
    good = [answer for answer in answers if answer.error is None]
    if not good:
        return [0, len(answers), "-", "-", "-"]
    seconds = [answer.seconds for answer in good]
    figures = [f"{statistics.median(seconds):.2f}", f"{percentile(seconds, 0.95):.2f}"]
    return [len(good), len(answers) - len(good), *figures, f"{drift(good):.2f}"]


def drift(answers: Sequence[Answer]) -> float:
    """The median of the last third of the time to that of the first third; NaN where one has no answer."""
    end = max(answer.at for answer in answers)
    first = [answer.seconds for answer in answers if answer.at <= end / 3]
    last = [answer.seconds for answer in answers if answer.at >= end * 2 / 3]
    return statistics.median(last) / statistics.median(first) if first and last else float("nan")


def _growth(samples: Sequence[Sample]) -> list[object]:
    sizes = [sample.rss / 2**20 for sample in samples]
    figures = [f"{size:.0f}" for size in (sizes[0], sizes[-1], max(sizes))]
    return [len({sample.pid for sample in samples}), *figures, f"{slope(samples):.0f}"]


def slope(samples: Sequence[Sample]) -> float:
    """KB a minute in the second half of the time, by least squares: one slope for all lives of a process's place, each
    from its own level, without the first `SETTLED` seconds of each. NaN where too little is left."""
    half = max(sample.at for sample in samples) / 2
    lives: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.pid].append(sample)
    above = below = 0.0
    for life in lives.values():
        settled = [sample for sample in life if sample.at >= max(half, life[0].at + SETTLED)]
        if len(settled) < 2:
            continue
        time_mean = statistics.fmean(sample.at for sample in settled)
        size_mean = statistics.fmean(sample.rss for sample in settled)
        above += sum((sample.at - time_mean) * (sample.rss - size_mean) for sample in settled)
        below += sum((sample.at - time_mean) ** 2 for sample in settled)
    return above / below * 60 / 1024 if below else float("nan")


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g}" if values else ""


if __name__ == "__main__":
    main()
