"""Live sessions of the streaming Sortformer: how long a step of so many takes, and whether they are told together what
each is told alone, and after a change of worker what it would have been told."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.results import table
from tests.support.following import feed, feed_together, pieces, whole, write
from tests.support.recordings import speech
from workers.diarize.sortformer.engine import Sortformer
from workers.diarize.sortformer.network import FRAME_SECONDS
from workers.diarize.sortformer.streaming import LIVE
from workers.engine import WorkItem
from workers.messages import SAMPLE_RATE, Follow
from workers.messages.live import LiveTurns

SESSIONS = (1, 4, 16, 64)
SECONDS = 45  # of each: the cache is full after 27
CHUNK = LIVE["chunk_len"] * FRAME_SECONDS  # seconds that a step takes in


class Timed(Sortformer):
    def __init__(self, **options: Any) -> None:
        self.seconds: list[float] = []
        super().__init__(**options)

    def run(self, items: Sequence[WorkItem]) -> Sequence[Any]:
        begun = time.perf_counter()
        outputs = super().run(items)
        self.seconds.append(time.perf_counter() - begun)
        return outputs


def measure(model: Path, device: str, folder: Path) -> dict[str, Any]:
    engine = Timed(model=str(model), device=device, live=True, live_batch=max(SESSIONS))
    samples = speech(SECONDS)
    audio = write(samples, folder / "live.pcm")
    alone = feed(engine, Follow(audio), pieces(len(samples), 0.48))
    steps = {}
    for count in SESSIONS:
        engine.seconds.clear()
        together = feed_together(engine, [(Follow(audio), pieces(len(samples), 0.48))] * count)
        steps[count] = statistics.median(engine.seconds[len(engine.seconds) // 2 :])  # with the cache full
    half = len(alone) // 2
    rest = feed(engine, Follow(audio, resume=alone[half].state), pieces(len(samples), 0.48, 20 * SAMPLE_RATE))
    return {
        "steps": steps,
        "memory": torch.cuda.max_memory_allocated() >> 20 if device.startswith("cuda") else None,  # MiB
        "state": len(alone[-1].state),  # bytes
        "resumed": rest[-1].turns == alone[-1].turns,
        "unlike": unlike(alone, together[-1]),
    }


def unlike(some: list[LiveTurns], others: list[LiveTurns]) -> float:
    """The share of time in which not the same speak."""
    times = np.arange(0, SECONDS, 0.01)

    def who(outputs: list[LiveTurns]) -> set[tuple[int, str]]:
        turns = whole(outputs)
        return {
            (int(at), turn.speaker)
            for turn in turns
            for at in np.flatnonzero((times >= turn.start) & (times < turn.end))
        }

    return len(who(some) ^ who(others)) / len(times)


def report(found: dict[str, Any]) -> str:
    head = ("live sessions in a step", "s", "sessions that keep up at this size")
    rows = [[count, f"{step:.3f}", int(count * CHUNK / step)] for count, step in found["steps"].items()]
    memory = "" if found["memory"] is None else f" {found['memory']} MiB of GPU memory."
    return (
        f"Live, the streaming Sortformer, {CHUNK:.2f} s of audio a step:\n\n{table(head, rows)}\n\n"
        f"The state of a session: {found['state'] / 1e6:.2f} MB.{memory} Another worker goes on "
        f"{'as if it had heard all' if found['resumed'] else 'DIFFERENTLY'}; what one of {max(SESSIONS)} in a step is "
        f"told differs from what it is told alone in {100 * found['unlike']:.1f} % of the time (random weights)."
    )
