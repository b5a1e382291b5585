"""`make overhead`: what the service costs around the models, which here do nothing.

First one client with a 30 s recording, in turn to a bare aiohttp upload handler and to us; then as many one-second
recordings a second as can be served. Client and servers share the machine. Last what traces cost, in CPU time
(bench/tracing_cost.py), which a busy machine can measure too: `--only traces`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import requests

from bench import tracing_cost
from bench.clients import Load, closed_loop, in_turn, silence, upload
from bench.results import CORES, arguments, percentile, publish, table, verdict
from tests.support.server import Server, configured, started

MODELS = """
separate = false
[whisper]
engine = "tests.support.noop:Whisper"
[embedded]
engine = "tests.support.noop:Diarizer"
"""
NOTHING = MODELS + '[decode]\nengine = "tests.support.noop:Decoder"\n'
DECODER = MODELS + '[decode]\nengine = "decoder"\nmemory_limit_mib = 2048\n'
LAG = "diarserve_loop_lag_seconds"
SERVERS = ("bare upload handler", "no models, no decoder", "no models, real decoder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("service", "traces"))
    parser.add_argument("--requests", type=int, default=1000, help="30 s recordings to each server")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 4, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=10, help="of load for each number of clients")
    parser.add_argument("--profile", action="store_true", help="show where the server's time goes under the last load")
    parser.add_argument("--traced", type=int, default=1000, help="requests to each server, for what traces cost")
    parser.add_argument("--starts", type=int, default=5, help="of those servers")
    parser.add_argument("--before", default="", help="a commit whose server is asked too")
    asked = arguments(parser)
    if asked.only != "traces":
        service(asked)
    if asked.only != "service":
        figures = tracing_cost.measured(NOTHING, asked.traced, asked.starts, asked.before)
        publish("tracing", "What traces cost", tracing_cost.report(figures), {"cpu": figures}, asked)


def service(asked: argparse.Namespace) -> None:
    with ExitStack() as stack:
        bare = stack.enter_context(started([sys.executable, "-m", "bench.bare"]))
        nothing, decoder = (stack.enter_context(configured(text)) for text in (NOTHING, DECODER))
        added = latencies((bare, nothing, decoder), asked.requests)
        loads = [throughput(nothing, clients, asked.seconds) for clients in asked.clients]
        if asked.profile:
            print(profile(nothing, max(asked.clients, default=1), asked.seconds), file=sys.stderr)
    publish("overhead", "Overhead", report(added, loads), {"added": added, "loads": loads}, asked)


def latencies(servers: Sequence[Server], count: int) -> dict[str, list[float]]:
    """Seconds of each request, by server."""
    ports, request = [server.port for server in servers], upload(silence(30))
    asyncio.run(in_turn(ports, request, min(count, 30)))  # warm
    measured = asyncio.run(in_turn(ports, request, count))
    return {name: [round(value, 6) for value in seconds] for name, seconds in zip(SERVERS, measured, strict=True)}


def throughput(server: Server, clients: int, seconds: float) -> dict[str, Any]:
    """One-second recordings from so many clients."""
    request = upload(silence(1))
    asyncio.run(closed_loop(server.port, request, clients, min(seconds, 1)))  # warm
    lag, cpu = buckets(scrape(server), LAG), server.cpu()
    load: Load = asyncio.run(closed_loop(server.port, request, clients, seconds))
    used = {name: after - cpu[name] for name, after in server.cpu().items()}
    after = buckets(scrape(server), LAG)
    return {
        "clients": clients,
        "rate": load.rate,
        "p50": percentile(load.seconds, 0.5),
        "p99": percentile(load.seconds, 0.99),
        "cpu_per_job": {name: spent / len(load.seconds) for name, spent in {**used, "client": load.client_cpu}.items()},
        "client_share": load.client_cpu / load.wall / CORES,
        "lag_p99": quantile({edge: count - lag.get(edge, 0) for edge, count in after.items()}, 0.99),
    }


def report(added: Mapping[str, Sequence[float]], loads: Sequence[Mapping[str, Any]]) -> str:
    parts = [of_latencies(added)]
    if loads:
        parts += ["One-second recordings, no models, no decoder, every client asking again at once:", of_loads(loads)]
    return "\n\n".join(parts)


def of_latencies(added: Mapping[str, Sequence[float]]) -> str:
    bare = added[SERVERS[0]]

    def more(seconds: Sequence[float], share: float) -> float:
        return 1e3 * (percentile(seconds, share) - percentile(bare, share))

    rows = [
        [
            name,
            *(f"{1e3 * percentile(seconds, share):.2f}" for share in (0.5, 0.99)),
            f"{1e3 * min(seconds):.2f}",
            f"{1e3 * max(seconds):.2f}",
            *(f"{more(seconds, share):.2f}" for share in (0.5, 0.99)),
        ]
        for name, seconds in added.items()
    ]
    head = ["30 s recording, one client, ms", "p50", "p99", "min", "max", "p50 added", "p99 added"]
    lines = [
        verdict(f"{name} added, ms ({server})", more(added[server], share), limit, most=True)
        for server in SERVERS[1:]
        for name, share, limit in (("p50", 0.5, 3), ("p99", 0.99, 15))
    ]
    return table(head, rows) + "\n\n" + "\n".join(lines)


def of_loads(loads: Sequence[Mapping[str, Any]]) -> str:
    processes = list(loads[0]["cpu_per_job"])
    rows = [
        [
            load["clients"],
            f"{load['rate']:.0f}",
            *(f"{1e3 * load[key]:.1f}" for key in ("p50", "p99")),
            *(f"{1e3 * load['cpu_per_job'][name]:.2f}" for name in processes),
            f"{load['client_share']:.0%}",
            "not measured" if load["lag_p99"] is None else f"{1e3 * load['lag_p99']:.1f}",
        ]
        for load in loads
    ]
    head = ["clients", "jobs/s", "p50 ms", "p99 ms", *(f"{name} CPU ms/job" for name in processes)]
    head += ["client's share of the cores", "loop lag p99 ms"]
    best = max(loads, key=lambda load: float(load["rate"]))
    lines = [verdict("jobs a second", best["rate"], 500, most=False)]
    if best["lag_p99"] is not None:
        lines.append(verdict("loop lag under that load, p99 ms", 1e3 * best["lag_p99"], 10, most=True))
    return table(head, rows) + "\n\n" + "\n".join(lines)


def scrape(server: Server) -> str:
    return requests.get(f"{server.url}/metrics", timeout=10).text


def buckets(metrics: str, name: str) -> dict[float, float]:
    """A histogram's cumulative counts by upper edge; none where it is not exported."""
    found = re.findall(rf'^{name}_bucket{{.*?le="([^"]+)".*?}} (\S+)$', metrics, re.MULTILINE)
    return {float(edge): float(count) for edge, count in found}


def quantile(counts: Mapping[float, float], share: float) -> float | None:
    """Between the edges of the bucket it falls into, as Prometheus does it; None without any observation."""
    total = max(counts.values(), default=0)
    if not total:
        return None
    low = below = 0.0
    for edge, count in sorted(counts.items()):
        if count >= share * total:
            if edge == float("inf"):
                return low
            return low + (edge - low) * (share * total - below) / max(count - below, 1e-9)
        low, below = edge, count
    return low


def profile(server: Server, clients: int, seconds: float) -> str:
    """Where the server's process holds the GIL: shares by function, callees included, of our own and aiohttp's."""
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder, "stacks")
        command = ["py-spy", "record", "--nonblocking", "--gil", "--function", "--rate", "250", "--format", "raw",
                   "--pid", str(server.pid), "--duration", str(round(seconds)), "--output", str(stacks)]  # fmt: skip
        command[0] = str(Path(sys.executable).with_name("py-spy"))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as recorder:
            load = asyncio.run(closed_loop(server.port, upload(silence(1)), clients, seconds + 1))
            recorder.wait()
        shares = inclusive(stacks.read_text())
    lines = [f"{load.rate:.0f} jobs/s while profiled; share of the samples that held the GIL:"]
    return "\n".join(lines + [f"{share:6.1%} {function}" for function, share in shares[:60]])


def inclusive(folded: str) -> list[tuple[str, float]]:
    """By function the share of samples in whose stack it is, from lines of `a;b;c count`."""
    counts: collections.Counter[str] = collections.Counter()
    total = 0
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        total += int(count)
        for function in set(stack.split(";")):
            counts[function] += int(count)
    return [(function, count / total) for function, count in counts.most_common()]


if __name__ == "__main__":
    main()
