from __future__ import annotations

from diarserve.transcript.sentences import Sentence, sentences
from workers.messages import Turn, Word

SAID = (
    Word(" Hello", 0.0, 0.5, 1.0),
    Word(" there.", 0.5, 1.0, 1.0),
    Word(" Who", 1.2, 1.5, 1.0),
    Word(" is", 1.5, 1.7, 1.0),
    Word(" it?", 1.7, 2.0, 1.0),
    Word(" Me", 2.1, 2.4, 1.0),
)


def test_without_turns_each_sentence_stands_alone_and_has_no_speaker() -> None:
    assert sentences(SAID, None) == [
        Sentence(0.0, 1.0, "Hello there."),
        Sentence(1.2, 2.0, "Who is it?"),
        Sentence(2.1, 2.4, "Me"),
    ]


def test_with_turns_it_has_its_speaker_and_ends_where_another_begins() -> None:
    turns = [Turn(0.0, 1.65, "SPEAKER_00"), Turn(1.65, 3.0, "SPEAKER_01")]
    words = (*SAID[:4], Word(" this", 1.7, 2.0, 1.0), SAID[5])
    assert sentences(words, turns) == [
        Sentence(0.0, 1.0, "Hello there.", "SPEAKER_00"),
        Sentence(1.2, 1.7, "Who is", "SPEAKER_00"),
        Sentence(1.7, 2.4, "this Me", "SPEAKER_01"),
    ]


def test_nothing_said_is_no_sentence() -> None:
    assert sentences((), None) == []
