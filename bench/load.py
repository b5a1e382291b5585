"""`make load`: bench/locustfile.py against a server of our own, without a browser, for a bounded time."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.results import arguments, percentile, publish, table
from tests.support.paths import REPOSITORY
from tests.support.server import Server, running

SHARES = (0.5, 0.9, 0.95, 0.99, 1.0)
Answer = tuple[float, float, bool]  # when it was asked for, seconds, whether it was 200
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, nargs="*", default=[1, 4, 16], help="of the closed loop")
    parser.add_argument("--arrivals", type=float, nargs="*", default=[0.25, 0.5, 1.0], help="a second, open loop")
    parser.add_argument("--seconds", type=int, default=60, help="of each")
    asked = arguments(parser)
    rows: list[Row] = []
    with running() as server:
        load(server, ["Clips", "--users", "1"], 5)  # warm
        for users in asked.users:
            answers = load(server, ["Clips", "--users", str(users), "--spawn-rate", str(users)], asked.seconds)
            rows.append({"load": f"closed, {users} users", "answers": answers})
        for rate in asked.arrivals:
            answers = load(server, ["Open", "--users", "1", "--arrivals", str(rate)], asked.seconds)
            rows.append({"load": f"open, {rate:g} a second", "answers": answers})
    publish("load", "Load", report(rows), {"loads": rows}, asked)


def load(server: Server, how: Sequence[str], seconds: int) -> list[Answer]:
    """Every answer, of those too who still waited at the end."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-m", "locust", "--locustfile", "bench/locustfile.py", "--host", server.url]
        command += ["--headless", "--run-time", f"{seconds}s", "--stop-timeout", "600", "--answers", file.name]
        done = subprocess.run([*command, *how], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if not (text := Path(file.name).read_text()):
            raise RuntimeError(done.stderr[-2000:])
    return [(round(asked, 3), round(took, 3), well) for asked, took, well in json.loads(text)]


def report(rows: Sequence[Row]) -> str:
    head = ["30 s recordings", "answers", "failures", "answers/s", *(f"p{round(100 * share)} s" for share in SHARES)]
    cells = []
    for row in rows:
        answers: list[Answer] = row["answers"]
        seconds = [took for _, took, well in answers if well]
        if not seconds:
            cells.append([row["load"], 0, len(answers)])
            continue
        wall = max(asked + took for asked, took, _ in answers) - min(asked for asked, _, _ in answers)
        figures = [f"{percentile(seconds, share):.2f}" for share in SHARES]
        cells.append([row["load"], len(seconds), len(answers) - len(seconds), f"{len(seconds) / wall:.2f}", *figures])
    return table(head, cells)


if __name__ == "__main__":
    main()
