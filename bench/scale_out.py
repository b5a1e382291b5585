"""`make scale-out`: 1 to 32 workers behind one server, and how near to linear the rate of jobs grows.

Stand-in engines in real worker processes, whose steps sleep as a GPU's caller would (tests/support/standins.py): what
is measured is the server, the lanes and the channels to the workers. Long steps show whether workers are kept busy,
short ones where the server's process is full.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time

import aiohttp

from bench import results
from bench.scaling_burst import transcribe
from tests.support.server import Server, configured

_CONFIG = """
separate = false
[limits]
max_pending = 256
[decode]
engine = "tests.support.standins:Copier"
width = 64
[whisper]
engine = "tests.support.standins:Whisper"
step_seconds = {step}
workers = {workers}
width = 2
[embedded]
engine = "tests.support.standins:Diarizer"
width = 64
"""
_WAITING = 3  # requests for each worker: it has one job under way, one at hand, and one in the lane's queue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--steps", type=float, nargs="+", default=[2.0, 0.05], help="seconds that one takes")
    parser.add_argument("--seconds", type=int, default=3, help="steps of each job")
    parser.add_argument("--busy", type=float, default=40.0, help="seconds that each worker has jobs for")
    asked = results.arguments(parser)
    series = {f"{step:g}": [_measured(workers, step, asked) for workers in asked.workers] for step in asked.steps}
    results.publish("scale_out", "Scale-out: 1 to 32 workers", report(series, asked), {"series": series}, asked)


def _measured(workers: int, step: float, asked: argparse.Namespace) -> dict[str, float]:
    jobs = workers * max(1, round(asked.busy / (step * asked.seconds)))
    with configured(_CONFIG.format(step=step, workers=workers)) as server:
        return asyncio.run(_run(server, workers, jobs, step, asked.seconds))


async def _run(server: Server, workers: int, jobs: int, step: float, seconds: int) -> dict[str, float]:
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=3600)
    right, left = [f"w{number}" for number in range(seconds)], iter(range(jobs))
    async with aiohttp.ClientSession(server.url, connector=connector, timeout=timeout) as session:

        async def client() -> None:
            for _ in left:
                assert await transcribe(session, seconds) == right

        used, began = server.cpu(), time.monotonic()
        await asyncio.gather(*(client() for _ in range(min(jobs, _WAITING * workers))))
        took = time.monotonic() - began
    by_process = {name: cpu - used[name] for name, cpu in server.cpu().items()}
    return {
        "workers": workers,
        "jobs": jobs,
        "seconds": took,
        "rate": jobs / took,
        "busy": jobs * seconds * step / workers / took,
        "server_cpu_ms": 1000 * by_process["server"] / jobs,
        "server_core": by_process["server"] / took,
        "whisper_cpu_ms": 1000 * by_process["whisper"] / jobs,
        "load": os.getloadavg()[0],
    }


def report(series: dict[str, list[dict[str, float]]], asked: argparse.Namespace) -> str:
    head = ["workers", "jobs/s", "of linear", "workers busy", "server CPU ms a job", "server, of a core", "load"]
    parts = [
        f"Each job has {asked.seconds} steps that sleep; {_WAITING} requests wait for each worker; jobs for "
        f"{asked.busy:g} s. The load is the machine's, with what else ran on its {results.CORES} cores. "
        "Figure: bench/plots/scale_out.svg."
    ]
    for step, measured in series.items():
        rows = [
            [
                f"{each['workers']:.0f}",
                f"{each['rate']:.2f}",
                f"{each['rate'] / each['workers'] / (measured[0]['rate'] / measured[0]['workers']):.3f}",
                f"{each['busy']:.3f}",
                f"{each['server_cpu_ms']:.1f}",
                f"{each['server_core']:.2f}",
                f"{each['load']:.1f}",
            ]
            for each in measured
        ]
        last = measured[-1]
        parts += [f"**Steps of {step} s**", results.table(head, rows)]
        parts.append(
            f"By its CPU for a job the server's process fills a core at {1000 / last['server_cpu_ms']:.0f} jobs/s; "
            f"with {last['workers']:.0f} workers it used {last['server_core']:.2f} of one"
            + ("." if last["busy"] > 0.9 else ": what was full is the machine, on which workers and clients run too.")
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
