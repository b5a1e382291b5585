"""Times of words as every engine hands them out: none shorter than 20 ms, each after the one before it.

Cross-attention puts several words into one frame of 20 ms, some of them without any length (9 of the 73 of pyannote's
sample): subtitles cannot show it, and no speaker overlaps with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

from workers.messages import Word

SHORTEST = 21  # milliseconds: 20, and one more so that it shows in floating point, where 8.02 - 8.0 is less than 0.02


def spaced(words: Sequence[Word], begin: float, end: float) -> list[Word]:
    """The same words in the same order, within `begin` and `end` (seconds): each begins at least `SHORTEST` after the
    one before it, and ends no later than the next begins. More words than fit so share the time that there is.

    What is far enough apart keeps its times, in milliseconds.
    """
    first, last = round(1000 * begin), math.floor(1000 * end + 1e-6)
    shortest = min(SHORTEST, (last - first) // max(1, len(words)))
    starts = []
    earliest = first
    for word in words:
        starts.append(max(round(1000 * word.start), earliest))
        earliest = starts[-1] + shortest
    placed = []
    following = last
    for word, start in zip(reversed(words), reversed(starts), strict=True):
        start = min(start, following - shortest)
        stop = min(max(round(1000 * word.end), start + shortest), following)
        placed.append(Word(word.word, start / 1000, stop / 1000, word.probability, word.language, word.channel))
        following = start
    return placed[::-1]


def in_order(words: Sequence[Word], channels: int, duration: float) -> list[Word]:
    """Those of each channel one after the other, so that they overlap with no other's alone."""
    ordered = sorted(words, key=lambda word: word.start)
    said = [[word for word in ordered if word.channel == channel] for channel in range(channels)]
    return sorted(chain.from_iterable(spaced(one, 0.0, duration) for one in said), key=lambda word: word.start)


def ends_sentence(text: str) -> bool:
    return text.rstrip().endswith((".", "?", "!", "…", "。", "？", "！"))
