"""Which speaker is which known voice."""

from __future__ import annotations

import math
import struct

import pytest

from diarserve.voices.matching import Heard, Known, Vector, assign, confidence, match, mean, vector


def at(degrees: float) -> Vector:
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def names(heard: list[float], known: list[float], seconds: float = 10.0) -> list[str | None]:
    """The names of speakers heard at angles, where those at other angles are known, as A, B, ..."""
    speakers = [Heard(f"SPEAKER_{number:02d}", at(angle), seconds) for number, angle in enumerate(heard)]
    voices = [Known("ABCD"[number], at(angle)) for number, angle in enumerate(known)]
    return [one.name for one in match(speakers, voices)]


def test_each_gets_the_own_name_whatever_the_order() -> None:
    assert names([0, 90, 180], [182, 3, 91]) == ["B", "C", "A"]


def test_who_is_absent_is_not_named() -> None:
    assert names([0], [70, 180]) == [None]
    assert names([0], []) == [None]
    assert names([], [0]) == []


def test_no_two_speakers_get_one_name() -> None:
    assert names([0, 10], [2]) == ["A", None]


def test_of_two_voices_that_are_alike_neither_is_asserted() -> None:
    assert names([0], [10, 15]) == [None]


def test_two_that_are_alike_are_told_apart_where_both_speak() -> None:
    assert names([0, 24], [2, 22]) == ["A", "B"]


def test_a_second_best_voice_is_nobody_s_name() -> None:
    """B is like enough, but more like A, whose name another speaker has."""
    assert assign([[0.95, 0.1], [0.8, 0.6]]) == {0: 0}


def test_the_more_are_known_the_more_alike_a_voice_must_be() -> None:
    far = [100.0 + number for number in range(99)]
    [one, *_] = match([Heard("SPEAKER_00", at(0), 9.0)], [Known("A", at(54)), *(Known(str(n), at(n)) for n in far)])
    assert one.name is None
    assert names([0], [54]) == ["A"]


def test_too_little_speech_makes_no_name_but_candidates() -> None:
    [one] = match([Heard("SPEAKER_00", at(0), 1.0)], [Known("A", at(5)), Known("B", at(80))])
    assert (one.name, one.speaker) == (None, "SPEAKER_00")
    assert [candidate.name for candidate in one.candidates] == ["A", "B"]
    assert one.confidence == one.candidates[0].confidence > 0.9
    [nobody] = match([Heard("SPEAKER_00", (), 0.0)], [Known("A", at(5))])
    assert (nobody.name, nobody.candidates, nobody.confidence) == (None, (), 0.0)


def test_confidence_rises_with_similarity() -> None:
    assert [round(confidence(cosine), 2) for cosine in (-1.0, 0.35, 0.47, 0.57, 0.7)] == [0.0, 0.05, 0.5, 0.92, 1.0]


def test_a_voice_is_the_mean_of_its_samples() -> None:
    assert mean([(at(0), 3.0), (at(90), 3.0)]) == pytest.approx(at(45))
    assert mean([(at(0), 9.0), (at(90), 0.0)]) == pytest.approx(at(0))
    assert vector(struct.pack("<2f", 3, 4)) == pytest.approx((0.6, 0.8))
