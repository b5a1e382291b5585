"""Golden texts, and every format read back by the library that its users would read it with."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import meeteval.io
import msgspec
import orjson
import pytest
import srt  # type: ignore[import-untyped]
import webvtt
from meeteval.io.ctm import CTM
from openai.types.audio import Transcription, TranscriptionDiarized, TranscriptionVerbose
from pyannote.database.util import load_rttm

from diarserve.core.settings import Subtitles
from diarserve.core.types import Format
from diarserve.http.openai import shapes
from diarserve.transcript import formats
from diarserve.transcript.document import Document, Segment, SpeakerMatch, decode
from diarserve.transcript.formats import FORMATS, render
from tests.support.documents import joined_document
from workers.messages import Turn, Word


def document(*said: tuple[str, float, float], turns: list[Turn], filename: str = "a call.wav") -> Document:
    return joined_document([Word(word, start, end, 0.9) for word, start, end in said], turns, 6.2, filename)


def with_segments(shown: Document, *segments: Segment) -> Document:
    return msgspec.structs.replace(shown, segments=segments)


@pytest.fixture
def call() -> Document:
    return document(
        (" Hello,", 0.5, 0.9), (" R&D", 0.95, 1.4), (" here.", 1.4, 1.8), (" <Who>", 2.0, 2.4), (" is", 2.4, 2.5),
        (" it?", 2.5, 3.0),
        turns=[Turn(0.4, 1.9, "SPEAKER_00"), Turn(1.95, 3.1, "SPEAKER_01")],
    )  # fmt: skip


@pytest.fixture
def silence() -> Document:
    return document(turns=[])


def rendered(shown: Document, name: Format) -> str:
    return render(shown, name)[0].decode()


GOLDEN: dict[Format, str] = {
    "text": "[0:00.50 - 0:01.80] SPEAKER_00: Hello, R&D here.\n[0:02.00 - 0:03.00] SPEAKER_01: <Who> is it?\n",
    "srt": (
        "1\n00:00:00,500 --> 00:00:01,800\nSPEAKER_00: Hello, R&D here.\n\n"
        "2\n00:00:02,000 --> 00:00:03,000\nSPEAKER_01: <Who> is it?\n\n"
    ),
    "vtt": (
        "WEBVTT\n\n"
        "00:00:00.500 --> 00:00:01.800\n<v SPEAKER_00>Hello, R&amp;D here.</v>\n\n"
        "00:00:02.000 --> 00:00:03.000\n<v SPEAKER_01>&lt;Who&gt; is it?</v>\n\n"
    ),
    "rttm": (
        "SPEAKER a_call 1 0.400 1.500 <NA> <NA> SPEAKER_00 <NA> <NA>\n"
        "SPEAKER a_call 1 1.950 1.150 <NA> <NA> SPEAKER_01 <NA> <NA>\n"
    ),
    "ctm": (
        "a_call 1 0.500 0.400 Hello, 0.9000\na_call 1 0.950 0.450 R&D 0.9000\na_call 1 1.400 0.400 here. 0.9000\n"
        "a_call 1 2.000 0.400 <Who> 0.9000\na_call 1 2.400 0.100 is 0.9000\na_call 1 2.500 0.500 it? 0.9000\n"
    ),
    "stm": "a_call 1 SPEAKER_00 0.500 1.800 Hello, R&D here.\na_call 1 SPEAKER_01 2.000 3.000 <Who> is it?\n",
    "tsv": (
        "start\tend\tspeaker\ttext\n500\t1800\tSPEAKER_00\tHello, R&D here.\n2000\t3000\tSPEAKER_01\t<Who> is it?\n"
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(call: Document, name: Format) -> None:
    assert rendered(call, name) == GOLDEN[name]


def test_json_is_the_document(call: Document) -> None:
    body, content_type = render(call, "json")
    assert decode(body) == call
    assert orjson.loads(body) == orjson.loads(msgspec.json.encode(call))
    assert content_type == "application/json"


def test_every_name_has_its_format() -> None:
    assert tuple(FORMATS) == get_args(Format)
    assert len({shape.suffix for shape in FORMATS.values()}) == len(FORMATS)


@pytest.mark.parametrize("name", GOLDEN)
def test_silence_is_an_empty_file_of_its_kind(silence: Document, name: Format) -> None:
    heads: dict[Format, str] = {"vtt": "WEBVTT\n\n", "tsv": "start\tend\tspeaker\ttext\n"}
    assert rendered(silence, name) == heads.get(name, "")


def test_an_empty_vtt_is_valid(silence: Document) -> None:
    assert webvtt.from_string(rendered(silence, "vtt")).captions == []


def test_subtitles_are_read_by_their_parsers(call: Document) -> None:
    subtitles = list(srt.parse(rendered(call, "srt"), ignore_errors=False))
    assert [(cue.index, cue.start.total_seconds(), cue.content) for cue in subtitles] == [
        (1, 0.5, "SPEAKER_00: Hello, R&D here."),
        (2, 2.0, "SPEAKER_01: <Who> is it?"),
    ]
    captions = webvtt.from_string(rendered(call, "vtt")).captions
    assert [(caption.voice, caption.text) for caption in captions] == [
        ("SPEAKER_00", "Hello, R&amp;D here."),
        ("SPEAKER_01", "&lt;Who&gt; is it?"),
    ]


def test_turns_are_read_by_pyannote_and_meeteval(call: Document, tmp_path: Path) -> None:
    file = tmp_path / "call.rttm"
    file.write_bytes(render(call, "rttm")[0])
    annotation = load_rttm(file)["a_call"]  # type: ignore[no-untyped-call]
    assert [(round(turn.start, 3), round(turn.end, 3), who) for turn, _, who in annotation.itertracks(True)] == [
        (0.4, 1.9, "SPEAKER_00"),
        (1.95, 3.1, "SPEAKER_01"),
    ]
    assert [line.speaker_id for line in meeteval.io.RTTM.load(file).lines] == ["SPEAKER_00", "SPEAKER_01"]


def test_words_and_segments_are_read_by_meeteval(call: Document) -> None:
    ctm = CTM.parse(rendered(call, "ctm"), parse_float=float)
    assert ctm.merged_transcripts() == "Hello, R&D here. <Who> is it?"
    assert {(line.filename, line.confidence) for line in ctm.lines} == {("a_call", "0.9000")}
    stm = meeteval.io.STM.parse(rendered(call, "stm"), parse_float=float)
    assert [(line.speaker_id, line.begin_time, line.end_time, line.transcript) for line in stm.lines] == [
        ("SPEAKER_00", 0.5, 1.8, "Hello, R&D here."),
        ("SPEAKER_01", 2.0, 3.0, "<Who> is it?"),
    ]


@pytest.mark.parametrize("filename", ["", ";;note.wav", "two\u2028lines \t of\nname.wav", "  .wav", "日本 語.mp3"])
def test_hostile_names_stay_one_token(call: Document, filename: str) -> None:
    replace, name = msgspec.structs.replace, "Ann B.\nC"
    first, *others = call.segments
    words = (replace(first.words[0], word="two words"), *first.words[1:])
    call = replace(
        with_segments(call, replace(first, speaker=name, words=words), *others),
        filename=filename,
        turns=(replace(call.turns[0], speaker=name), *call.turns[1:]),
    )
    assert len(meeteval.io.RTTM.load(StringIO(rendered(call, "rttm"))).lines) == 2
    assert len(CTM.parse(rendered(call, "ctm"), parse_float=float).lines) == 6
    lines = meeteval.io.STM.parse(rendered(call, "stm"), parse_float=float).lines
    assert [line.speaker_id for line in lines] == ["Ann_B._C", "SPEAKER_01"]
    assert len(rendered(call, "tsv").splitlines()) == 3


def talk(count: int, length: float = 0.3) -> Document:
    """One speaker without a pause, so in segments of up to 30 s."""
    words = [(f" word{number}", number * length, (number + 1) * length) for number in range(count)]
    return document(*words, turns=[Turn(0, count * length, "SPEAKER_00")])


def cues(shown: Document) -> list[tuple[float, float, list[str]]]:
    """Start, end and lines of each subtitle, without the speaker."""
    found = srt.parse(rendered(shown, "srt"), ignore_errors=False)
    return [(cue.start.total_seconds(), cue.end.total_seconds(), re.split(r": |\n", cue.content)[1:]) for cue in found]


@pytest.mark.parametrize("length", [0.05, 0.3, 1.0])
def test_long_segments_become_readable_cues_and_no_word_is_lost(length: float) -> None:
    shown = talk(80, length)
    found = cues(shown)
    assert len(found) > len(shown.segments)
    assert all(end - start <= 7 for start, end, _ in found)
    assert " ".join(line for _, _, lines in found for line in lines) == shown.text
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(found))


def test_a_language_without_spaces_is_cut_between_words_too() -> None:
    said = [(("，" if n % 10 == 9 else "") + "你好", n * 0.2, n * 0.2 + 0.2) for n in range(100)]
    shown = document(*said, turns=[Turn(0, 20, "SPEAKER_00")])
    found = cues(shown)
    assert "".join(line for _, _, lines in found for line in lines) == "".join(word for word, _, _ in said)
    assert len(found) >= 3


@pytest.mark.parametrize(
    "said",
    [
        [(" one", 1.0, 1.0), (" two", 1.0, 1.0)],  # no time at all
        [(" one", 1.0, 3.0), (" two", 2.0, 4.0)],  # over each other
        [(" one", 5.0, 6.0), (" two", 2.0, 3.0)],  # backwards
    ],
)
def test_cues_never_overlap_whatever_the_times(said: list[tuple[str, float, float]]) -> None:
    shown = with_segments(document(turns=[]), *(document(word, turns=[]).segments[0] for word in said))
    (start, end, one), (later, last, two) = cues(shown)
    assert (one, two) == (["one"], ["two"])
    assert start < end <= later < last
    assert len(webvtt.from_string(rendered(shown, "vtt")).captions) == 2


def test_subtitles_have_two_lines_of_42_characters_with_the_speaker() -> None:
    shown = talk(200)
    for cue in srt.parse(rendered(shown, "srt")):
        lines = cue.content.splitlines()
        assert 1 <= len(lines) <= 2
        assert all(len(line) <= 42 for line in lines)
    for caption in webvtt.from_string(rendered(shown, "vtt")).captions:
        assert 1 <= len(caption.lines) <= 2
        assert all(len(line) <= 42 for line in caption.text.splitlines())


def test_the_length_of_subtitles_is_a_setting() -> None:
    style = Subtitles(line_length=20, lines=1, seconds=2.0)
    found = list(srt.parse(render(talk(80), "srt", style)[0].decode()))
    assert all(len(cue.content) <= 20 and (cue.end - cue.start).total_seconds() <= 2 for cue in found)


def test_one_endless_word_is_a_cue() -> None:
    word = "a" * 200
    assert cues(document((f" {word}", 0.0, 20.0), turns=[])) == [(0, 20, [word])]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00.00"), (7.5, "0:07.50"), (3599.999, "1:00:00.00"), (3661.239, "1:01:01.24")]
)
def test_clock(seconds: float, shown: str) -> None:
    assert formats.clock(seconds) == shown


def test_subtitles_past_an_hour() -> None:
    shown = document((" late", 3725.25, 3726.0), turns=[])
    assert "01:02:05.250 --> 01:02:06.000" in rendered(shown, "vtt")
    assert "01:02:05,250 --> 01:02:06,000" in rendered(shown, "srt")


# OpenAI's shapes, held against the types that OpenAI's own package parses them with.


def strictly(kind: type[Any], answer: msgspec.Struct) -> Any:
    """As `kind` has it: nothing coerced, and no field that the type does not know, `task` excepted where it is
    only in OpenAI's documentation."""
    shape = msgspec.to_builtins(answer)
    parsed = kind.model_validate_json(orjson.dumps(shape), strict=True)
    assert (parsed.model_extra or {}).keys() <= {"task"}
    assert parsed.model_dump(exclude_unset=True) == shape
    return parsed


def test_json_shape(call: Document) -> None:
    parsed = strictly(Transcription, shapes.json(call))
    assert parsed.text == "Hello, R&D here. <Who> is it?"
    assert parsed.usage.seconds == 7


def test_verbose_shape(call: Document) -> None:
    parsed = strictly(TranscriptionVerbose, shapes.verbose_json(call, ["segment", "word"]))
    assert (parsed.task, parsed.language, parsed.duration) == ("transcribe", "english", 6.2)
    assert [word.word for word in parsed.words] == ["Hello,", "R&D", "here.", "<Who>", "is", "it?"]
    [first, second] = parsed.segments
    assert (first.id, first.start, first.end, first.text) == (0, 0.5, 1.8, "Hello, R&D here.")
    assert first.avg_logprob == pytest.approx(-0.1054)
    assert (second.tokens, second.seek, second.temperature) == ([], 0, 0)


@pytest.mark.parametrize(
    ("granularities", "present"), [(["segment"], {"segments"}), (["word"], {"words"}), ([], set())]
)
def test_verbose_has_what_was_asked(call: Document, granularities: list[shapes.Granularity], present: set[str]) -> None:
    shape = shapes.verbose_json(call, granularities)
    assert msgspec.to_builtins(shape).keys() & {"segments", "words"} == present
    strictly(TranscriptionVerbose, shape)


def test_verbose_numbers_stay_finite() -> None:
    shown = document((" la la la", 0, 1), turns=[])
    [said] = shown.segments
    shown = with_segments(
        shown, msgspec.structs.replace(said, words=(msgspec.structs.replace(said.words[0], probability=0.0),))
    )
    [segment] = shapes.verbose_json(shown).segments or ()
    assert segment.avg_logprob == pytest.approx(-13.8155)
    assert 0 < segment.compression_ratio < 2.4


def test_diarized_shape(call: Document) -> None:
    parsed = strictly(TranscriptionDiarized, shapes.diarized_json(call))
    assert [(segment.id, segment.speaker, segment.text) for segment in parsed.segments] == [
        ("seg_001", "A", "Hello, R&D here."),
        ("seg_002", "B", "<Who> is it?"),
    ]
    assert parsed.usage.seconds == 7


def spoken_by(*speakers: str) -> Document:
    segments = (Segment(number, 0.0, 1.0, speaker, "", ()) for number, speaker in enumerate(speakers))
    return with_segments(document(turns=[]), *segments)


def test_known_speakers_keep_their_names_and_nobody_gets_no_letter() -> None:
    matches = (SpeakerMatch("A", "S0", "A", 0.99, 5.0, ()), SpeakerMatch("S2", "S2", None, 0.0, 5.0, ()))
    shown = msgspec.structs.replace(spoken_by("S2", "UNKNOWN", "A", "S1", "A"), speaker_matches=matches)
    assert shapes.speaker_labels(shown) == {"UNKNOWN": "UNKNOWN", "A": "A", "S2": "B", "S1": "C"}


def test_letters_go_on_after_z() -> None:
    shown = spoken_by(*(f"S{number}" for number in range(28)))
    assert list(shapes.speaker_labels(shown).values())[-3:] == ["Z", "AA", "AB"]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (Transcription, shapes.json),
        (TranscriptionVerbose, shapes.verbose_json),
        (TranscriptionDiarized, shapes.diarized_json),
    ],
)
def test_silence_in_openais_shapes(
    silence: Document, kind: type[Any], shape: Callable[[Document], msgspec.Struct]
) -> None:
    assert strictly(kind, shape(silence)).text == ""


@pytest.mark.parametrize(
    ("code", "name"), [("de", "german"), ("yue", "cantonese"), ("ht", "haitian creole"), ("x", "x")]
)
def test_language_names(code: str, name: str) -> None:
    assert shapes.language_name(code) == name
