"""`make load`: bench/locustfile.py against a server of our own, without a browser, for a bounded time."""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.results import arguments, publish, table
from bench.server import REPOSITORY, Server, running

PERCENTILES = ("50%", "90%", "95%", "99%", "100%")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, nargs="*", default=[1, 4, 16], help="of the closed loop")
    parser.add_argument("--arrivals", type=float, nargs="*", default=[0.25, 0.5, 1.0], help="a second, open loop")
    parser.add_argument("--seconds", type=int, default=60, help="of each")
    asked = arguments(parser)
    rows: list[Mapping[str, str]] = []
    with running() as server:
        load(server, ["Closed", "--users", "1"], 5)  # warm
        for users in asked.users:
            found = load(server, ["Closed", "--users", str(users), "--spawn-rate", str(users)], asked.seconds)
            rows.append({"load": f"closed, {users} users"} | found)
        for rate in asked.arrivals:
            found = load(server, ["Open", "--users", "1", "--arrivals", str(rate)], asked.seconds)
            rows.append({"load": f"open, {rate:g} a second"} | found)
    publish("load", "Load", report(rows), {"loads": rows}, asked)


def load(server: Server, how: Sequence[str], seconds: int) -> dict[str, str]:
    """Locust's own line of all requests."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "locust", "--locustfile", "bench/locustfile.py", "--host", server.url]
        command += ["--headless", "--run-time", f"{seconds}s", "--stop-timeout", "300", "--csv", f"{folder}/load"]
        done = subprocess.run([*command, *how], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        try:
            return aggregated(Path(folder, "load_stats.csv").read_text())
        except OSError as error:
            raise RuntimeError(done.stderr[-2000:]) from error


def aggregated(text: str) -> dict[str, str]:
    """The last line of Locust's statistics, of all requests together."""
    return next(row for row in csv.DictReader(text.splitlines()) if row["Name"] == "Aggregated")


def report(rows: Sequence[Mapping[str, str]]) -> str:
    head = ("30 s recordings", "answers", "failures", "answers/s", *(f"{name} ms" for name in PERCENTILES))
    cells = [
        [
            row["load"],
            row["Request Count"],
            row["Failure Count"],
            f"{float(row['Requests/s']):.2f}",
            *(row[name] for name in PERCENTILES),
        ]
        for row in rows
    ]
    return table(head, cells)


if __name__ == "__main__":
    main()
