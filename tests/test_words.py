"""Times of words, whatever a model makes of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.words import check_times
from workers.messages import SAMPLE_RATE, Word
from workers.words import SHORTEST, spaced

SECONDS = st.floats(-1.0, 20.0)
WORDS = st.lists(st.builds(Word, st.text(max_size=2), SECONDS, SECONDS, st.floats(0.0, 1.0)), max_size=60)
property_test = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # for machines under load


@property_test
@given(WORDS, st.integers(25_000, 400_000))
def test_every_word_lasts_and_follows_the_one_before(words: list[Word], samples: int) -> None:
    duration = samples / SAMPLE_RATE
    result = spaced(words, 0.0, duration)
    check_times(result, duration)
    assert [(word.word, word.probability) for word in result] == [(word.word, word.probability) for word in words]
    assert spaced(result, 0.0, duration) == result


@property_test
@given(WORDS, st.integers(0, 1_200))
def test_more_words_than_fit_share_the_time_that_there_is(words: list[Word], milliseconds: int) -> None:
    result = spaced(words, 0.0, milliseconds / 1000)
    assert all(0.0 <= word.start <= word.end <= milliseconds / 1000 for word in result)
    assert all(before.end <= after.start for before, after in pairwise(result))
    assert all(word.start < word.end for word in result) or len(words) > milliseconds


@property_test
@given(st.lists(st.integers(SHORTEST, 2_000), max_size=40))
def test_what_is_far_enough_apart_stays(gaps: list[int]) -> None:
    starts = [sum(gaps[: number + 1]) for number in range(len(gaps))]
    words = [Word(" a", start / 1000, (start + SHORTEST) / 1000, 1.0) for start in starts]
    assert spaced(words, 0.0, 100.0) == words


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([(1.0, 1.5), (1.5, 1.5), (1.5, 2.0)], [(1.0, 1.5), (1.5, 1.521), (1.521, 2.0)]),
        ([(9.0, 10.0), (10.0, 10.0)], [(9.0, 9.979), (9.979, 10.0)]),  # at the end, the word before gives way
        ([(2.0, 3.0), (1.0, 1.5)], [(2.0, 2.021), (2.021, 2.042)]),
    ],
)
def test_words_without_a_length_get_one(times: list[tuple[float, float]], expected: list[tuple[float, float]]) -> None:
    words = [Word(" a", start, end, 0.5) for start, end in times]
    assert [(word.start, word.end) for word in spaced(words, 0.0, 10.0)] == expected
