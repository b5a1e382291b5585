"""`make peers`: the same recordings and weights through three designs, side by side, and how right each is.

`sequential` and `threads` are bench.baselines, in process and without the reading of files; ours is asked over HTTP.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.baselines import Outcome, baseline
from bench.performance_test import cases_in, on
from bench.results import arguments, publish, spread, table
from tests.support.recordings import SHARED, decoded, sample, write_wav
from tests.support.server import Server, running
from tests.support.text import plain
from workers.messages import SAMPLE_RATE, Turn

Design = Callable[[Sequence[Path]], Outcome]
SCORED = 30.0  # seconds of each recording that have a reference


@dataclass(frozen=True, slots=True)
class Timing:
    work: str
    seconds: Mapping[str, list[float]]  # by design, of each run
    cpu: Mapping[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, nargs="*", default=[1, 10], help="30 s clips given at once")
    parser.add_argument("--minutes", type=float, nargs="*", default=[5], help="lengths of long files")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = arguments(parser)
    with tempfile.TemporaryDirectory(prefix="diarserve-bench-") as folder:
        scored = references(Path(folder))
        cases = cases_in(Path(folder), asked.files, asked.minutes)
        with (
            baseline("sequential", asked.device) as sequential,
            baseline("threads", asked.device) as threads,
            running(on(asked.device)) as server,
        ):
            designs: dict[str, Design] = {
                "sequential": sequential.transcribe,
                "threads": threads.transcribe,
                "diarserve": lambda paths: over_http(server, paths),
            }
            errors = {name: wrong(scored, design(list(scored))) for name, design in designs.items()}  # warms them too
            timings = [
                Timing(case.name, {name: [] for name in designs}, {name: [] for name in designs}) for case in cases
            ]
            for run in range(asked.runs):
                for case, timing in zip(cases, timings, strict=True):
                    for name in turned(list(designs), run):
                        outcome = designs[name](case.paths)
                        timing.seconds[name].append(outcome.seconds)
                        timing.cpu[name].append(outcome.cpu)
                        print(f"run {run}, {case.name}, {name}: {outcome.seconds:.2f} s", file=sys.stderr)
    kept = [{"work": timing.work, "seconds": timing.seconds, "cpu": timing.cpu} for timing in timings]
    publish("peers", "Beside other designs", report(timings, errors), {"timings": kept, "errors": errors}, asked)


def turned(names: list[str], run: int) -> list[str]:
    """Whoever goes first finds other caches: each does in its turn."""
    first = run % len(names)
    return names[first:] + names[:first]


def over_http(server: Server, paths: Sequence[Path]) -> Outcome:
    cpu, began = server.cpu(), time.monotonic()
    documents = server.transcribe_at_once(paths)
    wall = time.monotonic() - began
    spent = sum(server.cpu().values()) - sum(cpu.values())
    turns = [[(turn["start"], turn["end"], turn["speaker"]) for turn in found["turns"]] for found in documents]
    return Outcome(wall, spent, {}, [found["text"] for found in documents], turns)


def references(folder: Path) -> dict[Path, Path]:
    """Recordings of 30 s whose turns are known, with their RTTM files."""
    found = {sample(): sample(".rttm")}
    for name in ("dev00", "dev01") if SHARED.is_dir() else ():
        path = folder / f"{name}.wav"
        write_wav(path, decoded(SHARED / path.name)[: int(SCORED * SAMPLE_RATE)])
        found[path] = SHARED / "dev.rttm"
    return found


def wrong(scored: Mapping[Path, Path], outcome: Outcome) -> dict[str, float]:
    """WER of the telephone call and DER of every recording, by name."""
    import jiwer

    from bench.scoring import stm_lines
    from tests.support.diarization_error import der, rttm_turns

    said = " ".join(text for _, text in sorted(stm_lines(sample(".stm")).values()))
    errors = {"WER sample": float(jiwer.wer(plain(said), plain(outcome.texts[0])))}
    for (path, rttm), turns in zip(scored.items(), outcome.turns, strict=True):
        found = [Turn(*turn) for turn in turns]
        errors[f"DER {path.stem}"] = der(rttm_turns(rttm, path.stem), found, SCORED).der
    return errors


def report(timings: Sequence[Timing], errors: Mapping[str, Mapping[str, float]]) -> str:
    names = list(errors)
    rows: list[list[Any]] = []
    for timing in timings:
        for name in names:
            beside = [own / first for own, first in zip(timing.seconds[name], timing.seconds[names[0]], strict=True)]
            rows.append([timing.work, name, spread(timing.seconds[name]), spread(timing.cpu[name]), spread(beside)])
    speed = table(("work", "design", "seconds", "CPU seconds", f"of {names[0]}'s time"), rows)
    kinds = list(errors[names[0]])
    right = table(("design", *kinds), [[name, *(f"{errors[name][kind]:.3f}" for kind in kinds)] for name in names])
    ahead = [
        f"- {timing.work}: diarserve is {spread(ratios)} times as fast as {name}"
        for timing in timings
        for name in names[:-1]
        for ratios in [[a / b for a, b in zip(timing.seconds[name], timing.seconds["diarserve"], strict=True)]]
    ]
    notes = "Median (smallest-largest) of runs in turn. The errors are of one run; all designs have the same weights."
    return "\n\n".join((speed, right, "\n".join(ahead), notes))


if __name__ == "__main__":
    main()
