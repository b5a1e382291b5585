from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tests.support.drive import drive, with_audio
from tests.support.recordings import SHARED, speech
from tests.support.text import plain
from workers.messages import SAMPLE_RATE, Transcribe, Word
from workers.whisper.engine import Whisper
from workers.whisper.gaps import PIECE_SECONDS, find, without_hallucinations
from workers.whisper.vad import Chunk


def chunk(*spans: tuple[float, float]) -> Chunk:
    audio = np.zeros(60 * SAMPLE_RATE, np.float32)
    return Chunk(audio, tuple((int(start * SAMPLE_RATE), int(end * SAMPLE_RATE)) for start, end in spans))


def said(*words: tuple[str, float, float]) -> list[Word]:
    return [Word(word, start, end, 0.9) for word, start, end in words]


def seconds(gaps: list[Chunk]) -> list[list[tuple[float, float]]]:
    return [[(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in gap.spans] for gap in gaps]


def test_speech_with_words_everywhere_has_no_gap() -> None:
    words = said(*((f" {place}", place, place + 0.8) for place in range(10)))
    assert find(chunk((0, 10)), words) == (words, [])


def test_silence_is_no_gap() -> None:
    words = said((" one", 0.5, 1.0), (" two", 21.0, 21.5))
    assert find(chunk((0, 2), (20, 22)), words) == (words, [])


def test_the_model_stopped_early() -> None:
    words = said((" one", 0.5, 1.0))
    settled, gaps = find(chunk((0, 4), (5, 9)), words)
    assert settled == words
    assert seconds(gaps) == [[(1.0, 4.0), (5.0, 9.0)]]


def test_the_model_began_late() -> None:
    assert seconds(find(chunk((10, 20)), said((" one", 18.0, 18.5)))[1]) == [[(10.0, 18.0)]]


def test_words_stretched_over_a_gap_go_to_their_neighbours() -> None:
    words = said((" end.", 1.0, 1.5), (" Then", 3.0, 7.0), (" you", 7.0, 9.0), (" go", 11.0, 11.5))
    settled, gaps = find(chunk((1, 12)), words)
    assert seconds(gaps) == [[(1.5, 6.25)], [(6.25, 11.0)]]
    assert settled == said((" end.", 1.0, 1.5), (" Then", 10.5, 10.75), (" you", 10.75, 11.0), (" go", 11.0, 11.5))
    settled, gaps = find(chunk((1, 12)), said((" end", 1.0, 1.5), (" here", 3.0, 9.0)))
    assert seconds(gaps) == [[(1.5, 6.75)], [(6.75, 12.0)]]
    assert settled == said((" end", 1.0, 1.5), (" here", 1.5, 1.75))


def test_words_that_nobody_can_have_said_are_dropped() -> None:
    words = said((" it", 1.0, 1.2), (" is", 1.2, 1.2), (" so", 1.2, 1.2), (" said", 1.5, 1.9))
    assert without_hallucinations(words) == words
    assert without_hallucinations(words + said(*[(" fi", 3.0, 3.02)] * 5)) == words
    assert without_hallucinations([]) == []


def test_nothing_but_stretched_words_is_left_alone() -> None:
    words = said((" music", 0.0, 9.0))
    assert find(chunk((0, 10)), words) == (words, [])


def test_a_gap_is_shorter_than_its_chunk() -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        edges = np.sort(random.uniform(0, 60, 8)).tolist()
        part = chunk(*zip(edges[::2], edges[1::2], strict=True))
        times = np.sort(random.uniform(edges[0], edges[-1], 10)).tolist()
        words = said(*((" word", start, end) for start, end in zip(times[::2], times[1::2], strict=True)))
        settled, gaps = find(part, words)
        assert [word.word for word in settled] == [word.word for word in words]
        assert all(0 < gap.seconds <= PIECE_SECONDS for gap in gaps)
        assert sum(gap.size for gap in gaps) <= part.size


@pytest.mark.models
@pytest.mark.skipif(not SHARED.is_dir(), reason="the recordings are not on this machine")
def test_what_whisper_passed_over_is_written_once() -> None:
    """Beside a clear voice it leaves a distant one out."""
    both = speech(256)[218 * SAMPLE_RATE :]
    words = with_audio(both, lambda ref: drive(Whisper(), Transcribe(ref)).words)
    said = plain(" ".join(word.word for word in words))
    assert "documents" in said
    assert "username" in said
    assert said.count("what you can do for your country") == said.count("you go into your") == 1
    assert all(one.start <= other.start for one, other in pairwise(words))
