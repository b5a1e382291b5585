from __future__ import annotations

from itertools import pairwise

from workers.messages import Word


def check_times(words: list[Word], duration: float) -> None:
    """What holds for the words of every engine."""
    assert all(word.end - word.start >= 0.02 for word in words)
    assert all(before.start < before.end <= after.start for before, after in pairwise(words))
    assert all(0.0 <= word.start < word.end <= duration for word in words)
