"""A finished document in other shapes. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePath

from msgspec import UNSET

from diarserve.core.settings import Subtitles
from diarserve.core.types import Format
from diarserve.transcript.document import Document, Segment, Turn, Word, encode
from diarserve.transcript.subtitles import Cue, cues, milliseconds

_STYLE = Subtitles()


def json(document: Document) -> bytes:
    return encode(document)


def text(document: Document) -> str:
    """One line for each segment: [start - end] speaker: what was said."""
    return "".join(
        f"[{clock(segment.start)} - {clock(segment.end)}] {segment.speaker}: {segment.text}\n"
        for segment in document.segments
    )


def srt(document: Document, style: Subtitles = _STYLE) -> str:
    """SubRip; who speaks stands before the words."""
    return subrip(cues(document, style, "{}: ".format))


def subrip(shown: Iterable[Cue]) -> str:
    return "".join(
        f"{number}\n{_timestamp(cue.start, ',')} --> {_timestamp(cue.end, ',')}\n{cue.text}\n\n"
        for number, cue in enumerate(shown, 1)
    )


def vtt(document: Document, style: Subtitles = _STYLE) -> str:
    """WebVTT (https://www.w3.org/TR/webvtt1/); who speaks is the cue's voice."""
    return webvtt(
        (cue, f"<v {escape(_one_line(cue.speaker), quote=False)}>{escape(cue.text, quote=False)}</v>")
        for cue in cues(document, style)
    )


def webvtt(shown: Iterable[tuple[Cue, str]]) -> str:
    """Of cues and what each says, escaped."""
    return "WEBVTT\n\n" + "".join(
        f"{_timestamp(cue.start, '.')} --> {_timestamp(cue.end, '.')}\n{said}\n\n" for cue, said in shown
    )


def rttm(document: Document) -> str:
    """The diarizer's turns, in NIST's Rich Transcription Time Marked format."""
    return rttm_of(
        document.filename, document.turns, {segment.speaker: _channel(segment) for segment in document.segments}
    )


def rttm_of(filename: str, turns: Sequence[Turn], channels: Mapping[str, int]) -> str:
    """`channels`: of the speakers who are not in the first."""
    name = _file_id(filename)
    return "".join(
        f"SPEAKER {name} {channels.get(turn.speaker, 1)} {_span(turn)} <NA> <NA> {_token(turn.speaker)} <NA> <NA>\n"
        for turn in turns
        if milliseconds(turn.end) > milliseconds(turn.start)
    )


def ctm(document: Document) -> str:
    """One line for each word, in NIST's time-marked conversation format: file, channel, start, duration, word,
    confidence. It has no place for a speaker: STM and RTTM have."""
    name = _file_id(document.filename)
    words = ((word, _channel(segment)) for segment in document.segments for word in segment.words)
    return "".join(
        f"{name} {channel} {_span(word)} {_token(word.word)} {word.probability:.4f}\n"
        for word, channel in sorted(words, key=lambda said: (said[1], said[0].start))  # as NIST's tools want them
        if word.word.strip()
    )


def stm(document: Document) -> str:
    """One line for each segment, in NIST's segment time mark format: file, channel, speaker, start, end, words."""
    name = _file_id(document.filename)
    return "".join(
        f"{name} {_channel(segment)} {_token(segment.speaker)} {segment.start:.3f} {segment.end:.3f} "
        f"{_one_line(segment.text)}\n"
        for segment in document.segments
    )


def tsv(document: Document) -> str:
    """Whisper's table, times in milliseconds, with a column for the speaker."""
    return "start\tend\tspeaker\ttext\n" + "".join(
        f"{milliseconds(segment.start)}\t{milliseconds(segment.end)}\t"
        f"{_one_line(segment.speaker)}\t{_one_line(segment.text)}\n"
        for segment in document.segments
    )


@dataclass(frozen=True, slots=True)
class Shape:
    render: Callable[..., str | bytes]  # of a Document, and where `subtitles` of its style
    content_type: str
    suffix: str  # of a file that holds it
    subtitles: bool = False


FORMATS: Mapping[Format, Shape] = {
    "json": Shape(json, "application/json", ".json"),
    "text": Shape(text, "text/plain; charset=utf-8", ".txt"),
    "srt": Shape(srt, "application/x-subrip; charset=utf-8", ".srt", subtitles=True),
    "vtt": Shape(vtt, "text/vtt; charset=utf-8", ".vtt", subtitles=True),
    "rttm": Shape(rttm, "text/plain; charset=utf-8", ".rttm"),
    "ctm": Shape(ctm, "text/plain; charset=utf-8", ".ctm"),
    "stm": Shape(stm, "text/plain; charset=utf-8", ".stm"),
    "tsv": Shape(tsv, "text/tab-separated-values; charset=utf-8", ".tsv"),
}


def render(document: Document, name: Format, style: Subtitles = _STYLE) -> tuple[bytes, str]:
    """The body and its content type.

    body, content_type = render(document, "srt")
    """
    shape = FORMATS[name]
    body = shape.render(document, style) if shape.subtitles else shape.render(document)
    return body if isinstance(body, bytes) else body.encode(), shape.content_type


def clock(seconds: float) -> str:
    """0:07.50; with hours only where there are any."""
    minutes, rest = divmod(round(seconds * 100), 6000)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{head}:{rest // 100:02}.{rest % 100:02}"


def _timestamp(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{point}{milliseconds:03}"


def _span(part: Turn | Word) -> str:
    """Start and duration, the duration such that they add up to the end as it would be rounded."""
    start, end = milliseconds(part.start), milliseconds(part.end)
    return f"{start / 1000:.3f} {max(end - start, 0) / 1000:.3f}"


def _file_id(filename: str) -> str:
    # A leading semicolon would make the line a comment.
    return _token(PurePath(filename).stem.lstrip(";")) or "recording"


def _channel(segment: Segment) -> int:
    """NIST counts from 1."""
    return 1 if segment.channel is UNSET else segment.channel + 1


def _token(value: str) -> str:
    return re.sub(r"\s+", "_", value.strip())


def _one_line(value: str) -> str:
    return " ".join(value.split())
