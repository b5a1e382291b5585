"""The specification's performance test: one model after the other beside both at the same time, ours over HTTP.

    python bench/performance_test.py --runs 10 --files 5

For each number of 30 s clips, all sent at once, and for long files. Both are warm and take turns in every run. The
limit is what the machine could do at best: the CPU seconds that our own workers spend, over the cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python bench/performance_test.py`

from bench.baselines import Baseline, baseline
from bench.results import CORES, arguments, mean, publish, spread, table, verdict
from tests.support.recordings import clips, speech, write_wav
from tests.support.server import Server, running

CLIP = 30.0  # seconds


@dataclass(slots=True)
class Case:
    name: str
    paths: list[Path]
    sequential: list[float] = field(default_factory=list)  # seconds, by run, as all that follows
    parallel: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # of our workers
    overlap: list[float] = field(default_factory=list)

    @property
    def speedups(self) -> list[float]:
        return [before / after for before, after in zip(self.sequential, self.parallel, strict=True)]

    @property
    def of_limit(self) -> list[float]:
        return [cpu / CORES / wall for cpu, wall in zip(self.cpu, self.parallel, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, nargs="*", default=[1, 5, 10], help="30 s clips sent at once")
    parser.add_argument("--minutes", type=float, nargs="*", default=[5], help="lengths of long files")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = arguments(parser)
    if not any(asked.files) and not asked.minutes:
        parser.error("neither clips nor long files are asked for")
    with tempfile.TemporaryDirectory(prefix="diarserve-bench-") as folder:
        cases = cases_in(Path(folder), asked.files, asked.minutes)
        with running(on(asked.device)) as server, baseline("sequential", asked.device) as sequential:
            measure(server, sequential, cases[0])  # warm
            cases[0] = Case(cases[0].name, cases[0].paths)
            for run in range(asked.runs):
                for case in cases:
                    measure(server, sequential, case)
                    print(f"run {run}, {case.name}: {case.sequential[-1]:.2f} s, {case.parallel[-1]:.2f} s",
                          file=sys.stderr)  # fmt: skip
    kept = [{key: value for key, value in asdict(case).items() if key != "paths"} for case in cases]
    publish("performance", "Sequential against parallel", report(cases), {"cases": kept}, asked)


def cases_in(folder: Path, files: Sequence[int], minutes: Sequence[float]) -> list[Case]:
    made = clips(folder, max(files, default=0), CLIP)
    cases = [Case(f"{count} clip{'s' if count > 1 else ''} of 30 s", made[:count]) for count in files if count]
    for length in minutes:
        path = folder / f"{length:g}-minutes.wav"
        write_wav(path, speech(60 * length))
        cases.append(Case(f"a file of {length:g} minutes", [path]))
    return cases


def on(device: str) -> dict[str, str]:
    """The environment of a server whose models are on that device."""
    return {} if device == "cpu" else {"DIARSERVE_WHISPER_DEVICE": device, "DIARSERVE_EMBEDDED_DEVICE": device}


def measure(server: Server, sequential: Baseline, case: Case) -> None:
    case.sequential.append(sequential.transcribe(case.paths).seconds)
    before, began = server.cpu(), time.monotonic()
    documents = server.transcribe_at_once(case.paths)
    case.parallel.append(time.monotonic() - began)
    case.cpu.append(sum(spent - before[name] for name, spent in server.cpu().items() if name != "server"))
    case.overlap.append(statistics.mean(overlap(document["performance"]) for document in documents))


def overlap(timings: dict[str, Any]) -> float:
    """The share of the shorter model's time in which the other ran too: what both exceed their common wall by."""
    both = timings["transcription_time"] + timings["diarization_time"]
    shorter = min(timings["transcription_time"], timings["diarization_time"])
    return max(0.0, float((both - both / timings["speedup_estimate"]) / shorter))


def report(cases: Sequence[Case]) -> str:
    head = ("work", "sequential s", "parallel s", "speedup", "of the limit", "models' overlap")
    rows = [
        [case.name, mean(case.sequential), mean(case.parallel), spread(case.speedups), spread(case.of_limit),
         # Of several recordings at once each waits for the others in both models.
         spread(case.overlap) if len(case.paths) == 1 else "-"]
        for case in cases
    ]  # fmt: skip
    targets = []
    for case in cases:
        if case.name == "10 clips of 30 s":
            targets.append(verdict("10 clips at once, speedup", statistics.median(case.speedups), 3.5, most=False))
        if case.name == "a file of 5 minutes":
            share = statistics.median(1 / speedup for speedup in case.speedups)
            targets.append(verdict("5 minutes, share of the sequential time", share, 0.33, most=True))
            targets.append(verdict("5 minutes, of the limit", statistics.median(case.of_limit), 0.9, most=False))
    notes = "Seconds are mean ± standard deviation, ratios median (smallest-largest) of runs side by side."
    return "\n\n".join(part for part in (table(head, rows), "\n".join(targets), notes) if part)


if __name__ == "__main__":
    main()
