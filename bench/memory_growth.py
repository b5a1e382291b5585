"""How Whisper's worker grows over requests of ever-different lengths, and what bounding oneDNN's cache of compiled
kernels costs in CPU time.

python -m bench.memory_growth                          # the default's capacity
python -m bench.memory_growth --capacities 1024 32 8   # side by side; 1024 is oneDNN's own

oneDNN compiles a kernel for every shape of its inputs, and keeps as many as ONEDNN_PRIMITIVE_CACHE_CAPACITY says
(https://uxlfoundation.github.io/oneDNN/dev_guide_primitive_cache.html). One worker for each capacity gets the same
requests, one after the other and in a different order each time, so that what else the machine does meets all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from bench import results
from diarserve.core import configuration
from diarserve.pool.worker_process import WorkerProcess
from tests.support.recordings import speech
from workers.messages import SAMPLE_RATE, AudioRef, Done, Ready, Submit, Transcribe, WorkerSpec

CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
SHORTEST, LONGEST = 1.0, 15.0  # seconds of audio
KB = 1000


@dataclass
class Measured:
    worker: WorkerProcess
    process: psutil.Process
    rss: list[int] = field(default_factory=list)  # bytes, after each request
    cpu: list[float] = field(default_factory=list)  # seconds of each request

    def slope(self) -> float:
        """Bytes a request over the second half, by least squares."""
        half = self.rss[len(self.rss) // 2 :]
        return float(np.polyfit(range(len(half)), half, 1)[0])

    async def transcribe(self, number: int, audio: AudioRef) -> None:
        before = sum(self.process.cpu_times()[:2])
        self.worker.send(Submit(str(number), "bench", Transcribe(audio), float(number)))
        while not isinstance(answer := await self.worker.receive(), Done):
            assert not hasattr(answer, "code"), answer
        self.cpu.append(sum(self.process.cpu_times()[:2]) - before)
        self.rss.append(self.process.memory_info().rss)


async def measure(capacities: Sequence[str], lengths: Sequence[float], folder: Path) -> dict[str, Measured]:
    """Requests of these lengths (seconds), by the capacity of the worker that answered them."""
    lane = configuration.load().whisper
    talk, chance = speech(600), random.Random(1)
    measured: dict[str, Measured] = {}
    async with AsyncExitStack() as stack:
        for capacity in capacities:
            own = {} if capacity == "default" else {CACHE: capacity}
            worker = await WorkerProcess.start(
                WorkerSpec("whisper", lane.engine, lane.options(), lane.environment | own)
            )
            stack.push_async_callback(worker.close)
            assert isinstance(await worker.receive(), Ready)
            measured[capacity] = Measured(worker, psutil.Process(worker.pid))
        for number, seconds in enumerate(lengths):
            size, path = round(seconds * SAMPLE_RATE), folder / "samples"
            start = chance.randrange(talk.size - size)
            talk[start : start + size].tofile(path)
            for each in chance.sample(list(measured.values()), len(measured)):
                await each.transcribe(number, AudioRef(str(path), size))
            if number % 50 == 49:
                sizes = ", ".join(f"{name} {each.rss[-1] / 1e6:.0f}" for name, each in measured.items())
                print(f"after {number + 1} requests, MB: {sizes}", flush=True)
    return measured


def table(measured: dict[str, Measured]) -> str:
    """CPU times of the second half, when nothing is warming up: the ratio of their sums, and the middle half of the
    ratios of single requests."""
    lines = [
        "| Capacity | RSS after 10 requests | half of them | all | KB a request in the second half | CPU time |",
        "|---|---|---|---|---|---|",
    ]
    reference = next(iter(measured.values()))
    half = len(reference.cpu) // 2
    for name, each in measured.items():
        rss = [f"{each.rss[at] / 1e6:.0f} MB" for at in (min(9, half), half, -1)]
        ratios = [own / other for own, other in zip(each.cpu[half:], reference.cpu[half:], strict=True) if other]
        low, _, high = statistics.quantiles(ratios, n=4)
        ratio = sum(each.cpu[half:]) / sum(reference.cpu[half:])
        lines.append(
            f"| {name} | {' | '.join(rss)} | {each.slope() / KB:.0f} | {ratio:.3f} ({low:.2f} to {high:.2f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacities", nargs="+", default=["default"], help="numbers, or default: the configuration's")
    parser.add_argument("--requests", type=int, default=600)
    asked = results.arguments(parser)
    chance = random.Random(0)
    lengths = [chance.uniform(SHORTEST, LONGEST) for _ in range(asked.requests)]
    with tempfile.TemporaryDirectory(prefix="diarserve-bench-") as folder:
        measured = asyncio.run(measure(asked.capacities, lengths, Path(folder)))
    data = {name: {"rss": each.rss, "cpu": each.cpu} for name, each in measured.items()}
    title = "Memory of Whisper's worker over requests of varied length"
    results.publish("memory_growth", title, table(measured), data, asked)


if __name__ == "__main__":
    main()
