"""Service level objectives (SLO) of a load: what its answers must be like, and whether they were.

Three limits: the share of errors; the 95th percentile of the seconds that a user waits; and the real-time factor
(RTF), the seconds from asking until the whole answer over the seconds of audio sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.results import percentile, verdict


@dataclass(frozen=True, slots=True)
class Limits:
    p95: float  # seconds
    rtf: float
    errors: float = 0.01


# By profile: the classes of bench/locustfile.py. For four users with the embedded default on two quiet cores, which do
# a call of 30 s in 0.67 s and five minutes in 6.4 s when they have several (make performance): twice what that makes
# of four users' recordings. Of live words, half as much again as p95 of four sessions was (2.8 s, make live).
LIMITS = {
    "Clips": Limits(p95=6, rtf=0.2),
    "Meetings": Limits(p95=52, rtf=0.2),
    "Batch": Limits(p95=22, rtf=0.2),
    "OpenAI": Limits(p95=6, rtf=0.2),
    "Live": Limits(p95=4.2, rtf=1.5),  # 1 is the least: it is spoken in real time
    "Open": Limits(p95=6, rtf=0.2),
}


@dataclass(frozen=True, slots=True)
class Answer:
    asked: float  # seconds since the epoch
    seconds: float  # until all of it was there, or it had failed
    audio: float  # seconds that were sent
    waits: tuple[float, ...] | None  # seconds that p95 is of; None: no answer, a refusal, an error

    @property
    def well(self) -> bool:
        return self.waits is not None


def judge(profile: str, answers: Sequence[Answer], limits: Limits) -> list[tuple[str, bool]]:
    """A line for each limit, and whether it was kept. Without a good answer none is."""
    well = [answer for answer in answers if answer.waits is not None]
    waits = [wait for answer in well for wait in answer.waits or ()]
    if not waits:
        return [(f"- {profile}: nothing was transcribed, in {len(answers)} answers: **missed**", False)]
    measured = (
        ("share of errors", (len(answers) - len(well)) / len(answers), limits.errors),
        ("p95 s", percentile(waits, 0.95), limits.p95),
        ("RTF", sum(answer.seconds for answer in well) / sum(answer.audio for answer in well), limits.rtf),
    )
    return [
        (verdict(f"{profile}, {len(answers)} answers, {what}", value, limit, most=True), value <= limit)
        for what, value, limit in measured
    ]
