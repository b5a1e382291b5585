"""What traces cost: CPU time of a server and its workers for a request, with traces off, on, and without any.

All servers run at the same time and are asked in turn, a few requests each, in an order that is drawn anew each round:
whatever else the machine does falls on all of them alike. Waiting for a core is no CPU time, so that a busy machine
adds little. Two servers with traces off show how much two equal processes differ; all are started several times, as
most of that difference stays for as long as a process lives.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.clients import Connection, silence, upload
from bench.results import spread, table
from tests.support.collector import collecting
from tests.support.paths import REPOSITORY
from tests.support.server import Server, cpu_seconds, started

OFF = "off"
_BLOCK = 10  # requests to one server before the next


@dataclass(frozen=True)
class Version:
    """A server to compare."""

    name: str
    module: str = "diarserve"
    source: Path = REPOSITORY
    environment: Mapping[str, str] = field(default_factory=dict)


def measured(config: str, requests: int, starts: int, before: str) -> dict[str, list[float]]:
    """CPU seconds of a request, by version: a figure for each start of all servers. `before`: a commit to compare with,
    or empty."""
    figures: dict[str, list[float]] = {}
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".toml"))
        file.write(config)
        file.flush()
        collector = stack.enter_context(collecting())
        versions = [
            *([Version(f"commit {before}", source=stack.enter_context(_sources(before)))] if before else []),
            Version("calls taken out", "bench.untraced"),
            Version(OFF),
            Version("off, another server"),
            Version("on", environment={"DIARSERVE_TRACING_ENDPOINT": collector.url}),
            Version("on, 1 in 100", environment={
                "DIARSERVE_TRACING_ENDPOINT": collector.url, "DIARSERVE_TRACING_RATIO": "0.01",
            }),
        ]  # fmt: skip
        for _ in range(starts):
            with ExitStack() as running:
                order = random.sample(versions, len(versions))
                servers = [running.enter_context(_serving(version, file.name)) for version in order]
                for version, seconds in zip(order, asyncio.run(_in_turn(servers, requests)), strict=True):
                    figures.setdefault(version.name, []).append(seconds)
                collector.spans.clear()
    return {version.name: figures[version.name] for version in versions}


async def _in_turn(servers: Sequence[Server], requests: int) -> list[float]:
    """CPU seconds of a request to each. Those of the time between its own blocks count too: spans are sent then."""
    request = upload(silence(1))
    connections = [await Connection.open(server.port) for server in servers]
    processes = [[server.pid, *(pid for pids in server.workers().values() for pid in pids)] for server in servers]
    await _ask(connections, request, 30)  # warm
    before = [sum(map(cpu_seconds, pids)) for pids in processes]
    for _ in range(max(1, requests // _BLOCK)):
        await _ask(random.sample(connections, len(connections)), request, _BLOCK)
    spent = [sum(map(cpu_seconds, pids)) - began for pids, began in zip(processes, before, strict=True)]
    for connection in connections:
        connection.close()
    return [seconds / (max(1, requests // _BLOCK) * _BLOCK) for seconds in spent]


async def _ask(connections: Sequence[Connection], request: bytes, count: int) -> None:
    for connection in connections:
        for _ in range(count):
            await connection.ask(request)


@contextmanager
def _serving(version: Version, config: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="diarserve-") as folder:
        command = ["env", f"--chdir={version.source}", sys.executable, "-m", version.module, "serve"]
        command += ["--config", config, "--data-dir", folder]
        environment = {"PYTHONPATH": str(version.source), **version.environment}
        with started(command, environment) as server:
            yield server


@contextmanager
def _sources(commit: str) -> Iterator[Path]:
    """A commit's files, for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "--extract", "--directory", folder], input=archive, check=True)
        yield Path(folder)


def report(figures: Mapping[str, Sequence[float]]) -> str:
    rows: list[list[Any]] = []
    for name, seconds in figures.items():
        ratios = [value / off for value, off in zip(seconds, figures[OFF], strict=True)]
        more = [1e6 * (value - off) for value, off in zip(seconds, figures[OFF], strict=True)]
        shown = ["-", "-"] if name == OFF else [spread(ratios, 3), spread(more, 0)]
        rows.append([name, f"{1e3 * statistics.median(seconds):.3f}", *shown])
    return table(["traces", "CPU ms/request", "of off", "more than off, µs"], rows)
