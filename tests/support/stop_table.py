"""`python -m tests.support.stop_table`: how long the server takes to end, in every situation and by every signal, and
its exit code, with the default settings and stand-in engines. Takes ten minutes."""

from __future__ import annotations

import argparse
import signal
import tempfile
from pathlib import Path

from tests.support import stopping
from tests.support.stop_situations import SITUATIONS, TWICE

SIGNALS = {"SIGTERM": (signal.SIGTERM,), "SIGINT": (signal.SIGINT,), "SIGTERM twice": TWICE}


def measure(name: str, signals: tuple[signal.Signals, ...], seconds: float | None) -> str:
    situation = SITUATIONS[name]
    with tempfile.TemporaryDirectory(prefix="diarserve-stop-") as path:
        folder = Path(path)
        with stopping.running(folder, stop_seconds=seconds, config=situation.config) as server:
            situation.arrange(server)
            ended = stopping.stop(server, signals, 120)
        for gate in folder.glob("*-hangs"):
            gate.unlink()
        (folder / "config.toml").unlink()
        with stopping.running(folder) as successor:
            successor.wait_ready()
        left = f", {len(ended.left)} workers left" if ended.left else ""
        return f"{ended.seconds:.1f} s, {ended.code}{left}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stop-seconds", type=float, help="instead of the default")
    seconds = parser.parse_args().stop_seconds
    print(f"| Situation | {' | '.join(SIGNALS)} |\n|---|{'---|' * len(SIGNALS)}", flush=True)
    for name in SITUATIONS:
        cells = [measure(name, signals, seconds) for signals in SIGNALS.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
