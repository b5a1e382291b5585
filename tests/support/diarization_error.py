"""How far turns are from a reference: DER by pyannote.metrics (no collar, overlap counted)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate

from workers.messages import Turn


class Rates(NamedTuple):
    """Shares of the reference speech."""

    der: float
    missed: float
    false_alarm: float
    confusion: float


def der(truth: Sequence[Turn], turns: Sequence[Turn], end: float) -> Rates:
    """Scored from 0 to `end` seconds."""
    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    found = metric(annotation(truth), annotation(turns), uem=Timeline([Segment(0, end)]), detailed=True)
    parts = (found[part] / found["total"] for part in ("missed detection", "false alarm", "confusion"))
    return Rates(found["diarization error rate"], *parts)


def annotation(turns: Sequence[Turn]) -> Annotation:
    made = Annotation()
    for track, turn in enumerate(turns):
        made[Segment(turn.start, turn.end), track] = turn.speaker
    return made


def speakers(turns: Sequence[Turn]) -> int:
    return len({turn.speaker for turn in turns})


def rttm_turns(path: Path, name: str) -> list[Turn]:
    fields = [line.split() for line in path.read_text().splitlines() if line]
    return [Turn(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in fields if f[1] == name]
