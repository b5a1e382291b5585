"""Speakers of live words: which are told when, and which are corrected."""

from __future__ import annotations

import tracemalloc

from diarserve.live.events import Correction, Final, UtteranceEnd
from diarserve.live.labels import PATIENCE, Labels
from workers.messages import Turn, Word
from workers.messages.live import LiveTurns


def said(*starts: float) -> list[Word]:
    return [Word(f" w{start:g}", start, start + 0.5, 0.9) for start in starts]


def turns(since: float, until: float, *spoken: tuple[float, float, str]) -> LiveTurns:
    return LiveTurns(tuple(Turn(*turn) for turn in spoken), since, until)


def told(events: list[Final | UtteranceEnd]) -> list[str]:
    return [f"{word.word} {word.speaker}" for event in events if isinstance(event, Final) for word in event.words]


def test_a_word_waits_until_turns_are_settled_up_to_its_end() -> None:
    labels = Labels()
    labels.hear(said(0, 1), utterance=0, now=10.0)
    labels.end(UtteranceEnd(0, 1.5))
    assert labels.release(10.0) == []
    labels.settle(turns(0, 1, (0, 1, "A")))
    assert told(labels.release(10.1)) == ["w0 A"]
    labels.settle(turns(0, 2, (0, 1, "A"), (1, 2, "B")))
    final, end = labels.release(10.2)
    assert isinstance(final, Final)
    assert (final.first, told([final])) == (1, ["w1 B"])
    assert end == UtteranceEnd(0, 1.5)


def test_a_word_waits_no_longer_than_its_time_and_its_speaker_is_told_later() -> None:
    labels = Labels()
    labels.hear(said(0), utterance=0, now=10.0)
    assert labels.due() == 10.0 + PATIENCE
    assert told(labels.release(10.0 + PATIENCE)) == ["w0 UNKNOWN"]
    assert labels.settle(turns(0, 1, (0, 1, "A"))) == [Correction(0, 1, "A")]


def test_a_speaker_is_corrected_once_two_judgements_agree() -> None:
    labels = Labels()
    labels.hear(said(0, 1, 2), utterance=0, now=0.0)
    labels.settle(turns(0, 3, (0, 3, "A")))
    assert told(labels.release(0.0)) == ["w0 A", "w1 A", "w2 A"]
    assert labels.settle(turns(1, 4, (1, 4, "B"))) == []
    assert labels.settle(turns(1, 5, (1, 5, "B"))) == [Correction(1, 3, "B")]
    assert labels.settle(turns(2, 6, (2, 6, "C"))) == []
    assert labels.settle(turns(2, 7, (2, 7, "B"))) == []
    assert labels.last_corrections() == []


def test_the_last_turns_correct_at_once() -> None:
    labels = Labels()
    labels.hear(said(0, 1), utterance=0, now=0.0)
    labels.settle(turns(0, 2, (0, 2, "A")))
    labels.release(0.0)
    labels.settle(turns(0, 3, (0, 1, "A"), (1, 3, "B")))
    assert labels.last_corrections() == [Correction(1, 2, "B")]


def test_what_is_long_told_is_forgotten_and_stays_as_it_is() -> None:
    labels = Labels()
    for second in range(300):
        labels.hear(said(second), utterance=second, now=float(second))
        labels.settle(turns(second, second + 1, (second, second + 1, "A")))
        labels.release(float(second))
    assert len(labels._told) <= 62
    assert len(labels._turns) <= 62
    corrected = [correction for _ in range(2) for correction in labels.settle(turns(0, 300, (0, 300, "B")))]
    assert all(correction.first >= 238 for correction in corrected)
    assert corrected


def test_where_no_turns_come_words_are_forgotten_too() -> None:
    labels = Labels()
    labels.follows = False

    def memory(words: int) -> int:
        for start in range(words):
            labels.hear(said(start), utterance=0, now=10.0)
            assert told(labels.release(10.0)) == [f"w{start:g} UNKNOWN"]
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        assert -memory(100) + memory(1000) < 20_000
    finally:
        tracemalloc.stop()
