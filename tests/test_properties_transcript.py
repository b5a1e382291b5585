"""Joining and rendering, whatever a recognizer and a diarizer may say: no word is lost or made up, and every format is
read back by its rules."""

from __future__ import annotations

import orjson
import pytest
import srt  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diarserve.transcript import merge
from diarserve.transcript.document import UNKNOWN, Document, decode, encode
from diarserve.transcript.formats import render
from tests.support.documents import joined_document
from workers.messages import Turn, Word
from workers.words import SHORTEST

property_test = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # for machines under load

MILLISECONDS = st.integers(0, 100_000)
SPOKEN = st.text(max_size=8) | st.sampled_from([" Yes.", " no", " -->", "\n\n1\n00:00:00,000 --> 00:00:09,000\nx", ""])


@st.composite
def words(draw: st.DrawFn) -> list[Word]:
    """As an engine sends them: in order, none overlapping another."""
    said, end = [], 0
    for word in draw(st.lists(SPOKEN, max_size=30)):
        start = end + draw(st.integers(0, 3000))
        end = start + draw(st.integers(SHORTEST, 3000))
        said.append(Word(word, start / 1000, end / 1000, draw(st.floats(0, 1))))
    return said


@st.composite
def turns(draw: st.DrawFn) -> list[Turn]:
    """Sorted by start; they may overlap, and have no length."""
    made = [
        Turn(start / 1000, (start + length) / 1000, f"SPEAKER_0{speaker}")
        for start, length, speaker in draw(
            st.lists(st.tuples(MILLISECONDS, MILLISECONDS, st.integers(0, 3)), max_size=20)
        )
    ]
    return sorted(made, key=lambda turn: turn.start)


def document(said: list[Word], spoken: list[Turn], filename: str = "a.wav") -> Document:
    return joined_document(said, spoken, 200.0, filename)


@property_test
@given(words(), turns())
def test_every_word_keeps_its_place_and_gets_a_speaker(said: list[Word], spoken: list[Turn]) -> None:
    labelled = merge.label(said, spoken)
    assert [(word.word, word.start, word.end, word.probability) for word in labelled] == [
        (word.word, word.start, word.end, word.probability) for word in said
    ]
    assert {word.speaker for word in labelled} <= {turn.speaker for turn in spoken} | {UNKNOWN}
    assert all(0.0 <= word.speaker_confidence <= 1.0 + 1e-9 for word in labelled)
    groups = merge.groups(labelled)
    assert [word for group in groups for word in group] == labelled
    assert all(group and len({word.speaker for word in group}) == 1 for group in groups)


@property_test
@given(words(), turns(), st.text(max_size=20))
def test_a_document_is_read_back_as_it_was(said: list[Word], spoken: list[Turn], filename: str) -> None:
    made = document(said, spoken, filename)
    assert decode(encode(made)) == made
    assert orjson.loads(encode(made))["text"] == made.text


@property_test
@given(words(), turns())
def test_subtitles_are_read_back_with_every_character(said: list[Word], spoken: list[Turn]) -> None:
    made = document(said, spoken)
    cues = list(srt.parse(render(made, "srt")[0].decode()))
    shown = "".join("".join(cue.content.partition(":")[2].split()) for cue in cues)
    assert shown == "".join("".join(word.word.split()) for word in said)
    assert all(cue.start < cue.end for cue in cues)
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))


@property_test
@given(words(), turns(), st.text(max_size=20))
@pytest.mark.parametrize(("name", "fields"), [("rttm", 10), ("ctm", 6), ("tsv", 4)])
def test_a_line_has_as_many_fields_as_its_format_says(
    name: str, fields: int, said: list[Word], spoken: list[Turn], filename: str
) -> None:
    body = render(document(said, spoken, filename), name)[0].decode()  # type: ignore[arg-type]
    lines = body.split("\n")
    assert lines.pop() == ""
    assert all(len(line.split("\t" if name == "tsv" else None)) == fields for line in lines)
    if name == "ctm":
        assert len(lines) == sum(bool(word.word.strip()) for word in said)
    if name == "rttm":
        assert len(lines) == sum(turn.start < turn.end for turn in spoken)
