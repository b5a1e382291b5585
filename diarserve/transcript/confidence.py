"""How probable it is that a word's speaker is right, from the activity that the diarizer saw. Pure functions.

Logistic in the margin between the word's speaker and the likest other one. Measured with the embedded diarizer on
recordings that the fit had not seen (`make confidence`): the expected calibration error is 0.02, and of the share of
the word that turns cover 0.12; wrong words are told from right ones with an AUC of 0.86, and 0.65. What else is known
(that share, overlap, whether the word was moved to a sentence's end) adds less than 0.001 to the Brier score.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp

from workers.messages import SpeakerActivity


def probability(activity: SpeakerActivity, margin: float) -> float:
    """Of a word of that margin."""
    return round(1 / (1 + exp(-(activity.bias + activity.slope * margin))), 3)


def margins(activity: SpeakerActivity) -> Callable[[str, float, float], float | None]:
    """What gives for a speaker, a word's start and its end (seconds) the margin; None for speakers whom the activity
    does not know.

    >>> two = SpeakerActivity(0.0, 0.1, ("A", "B"), bytes([255, 255, 0, 51]), 0.0, 5.0)
    >>> margins(two)("A", 0.0, 0.1), margins(two)("B", 0.1, 0.2)
    (1.0, -0.8)
    """
    start, rate, levels, names = activity.start, 1 / activity.step, activity.levels, activity.speakers
    frames = len(levels) // max(1, len(names))
    if not frames:
        return lambda *_: None
    row_of = {name: number for number, name in enumerate(names)}
    rows = [levels[number * frames : (number + 1) * frames] for number in range(len(names))]

    def margin(speaker: str, begin: float, end: float) -> float | None:
        row = row_of.get(speaker)
        if row is None:
            return None
        first, past = int((begin - start) * rate + 0.5), int((end - start) * rate + 0.5)
        if not 0 <= first < past <= frames:
            first = min(max(0, first), frames - 1)
            past = min(max(first + 1, past), frames)
        sums = [sum(own[first:past]) for own in rows]
        level = sums.pop(row)
        return (level - max(sums) if sums else level) / (255 * (past - first))

    return margin
