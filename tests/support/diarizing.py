"""A diarizer's job in this process, and what holds for the answer of every diarizer."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.support.drive import drive
from workers.engine import Engine
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, AudioRef, Diarization, Diarize


class Diarizer:
    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.file = folder / "audio.f32"

    def __call__(self, samples: Samples, **hints: int) -> Diarization:
        samples.astype(np.float32).tofile(self.file)
        result = drive(self.engine, Diarize(AudioRef(str(self.file), len(samples)), **hints))
        assert isinstance(result, Diarization)
        check(result, len(samples) / SAMPLE_RATE)
        return result


def check(result: Diarization, duration: float) -> None:
    turns = result.turns
    assert all(0 <= turn.start < turn.end <= duration + 0.001 for turn in turns)
    assert all(round(time, 3) == time for turn in turns for time in (turn.start, turn.end))
    assert [turn.start for turn in turns] == sorted(turn.start for turn in turns)
    appearances = list(dict.fromkeys(turn.speaker for turn in turns))
    assert appearances == [f"SPEAKER_{i:02d}" for i in range(len(appearances))]
    for name in appearances:
        own = [turn for turn in turns if turn.speaker == name]
        assert all(one.end < other.start for one, other in pairwise(own))
    if (activity := result.activity) and appearances:
        assert list(activity.speakers) == appearances
        frames, rest = divmod(len(activity.levels), len(appearances))
        assert rest == 0
        assert activity.start + frames * activity.step >= turns[-1].end - activity.step


def speakers(result: Diarization) -> int:
    return len({turn.speaker for turn in result.turns})
