"""Segments cut into subtitles that can be read: cues of a few short lines, none over another. Pure functions.

The default of two lines of 42 characters and up to 7 s is usual practice (Netflix's Timed Text Style Guide).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from msgspec import UNSET

from diarserve.core.settings import Subtitles
from diarserve.transcript.document import Document, Segment, Word


@dataclass(frozen=True, slots=True)
class Cue:
    start: int  # milliseconds
    end: int  # after the start, and not after the next cue's start
    speaker: str
    text: str  # of at most `lines` lines of `line_length` characters, unless a single word is longer


def cues(document: Document, style: Subtitles, prefix: Callable[[str], str] = lambda speaker: "") -> Iterator[Cue]:
    """`prefix`: what stands before the words of a speaker. It counts as a part of the first line."""
    pieces = [piece for segment in document.segments for piece in _cut(segment, style, prefix(segment.speaker))]
    if any(segment.channel is not UNSET for segment in document.segments):  # people speak at the same time
        pieces.sort(key=lambda piece: piece.start)
    free = 0  # when the cue before has ended
    for index, piece in enumerate(pieces):
        start, end = max(piece.start, free), piece.end
        if index + 1 < len(pieces):
            end = min(end, pieces[index + 1].start)
        free = max(end, start + 1)
        yield Cue(start, free, piece.speaker, piece.text)


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


@dataclass(slots=True)
class _Lines:
    """Text that grows word by word and is broken between words."""

    width: int
    lines: list[str]

    def fits(self, word: str, most: int) -> bool:
        return len(self.lines) < most or self._on_last_line(word)

    def add(self, word: str) -> None:
        if self._on_last_line(word):
            self.lines[-1] += word
        else:
            self.lines.append(word.strip())

    def _on_last_line(self, word: str) -> bool:
        last = self.lines[-1]
        return not last or len(last) + len(word.rstrip()) <= self.width


@dataclass(slots=True)
class _Piece:
    """A cue in the making."""

    lines: _Lines
    words: list[Word] = field(default_factory=list)


def _cut(segment: Segment, style: Subtitles, prefix: str) -> Iterator[Cue]:
    prefix = " ".join(prefix.split()) + " " if prefix else ""
    piece = _Piece(_Lines(style.line_length, [prefix]))
    for word, written in zip(segment.words, spelled(segment), strict=True):
        if piece.words and not (
            word.end - piece.words[0].start <= style.seconds and piece.lines.fits(written, style.lines)
        ):
            yield _finished(piece, segment.speaker)
            piece = _Piece(_Lines(style.line_length, [prefix]))
        piece.lines.add(written if piece.words else written.lstrip())
        piece.words.append(word)
    if piece.words:
        yield _finished(piece, segment.speaker)


def _finished(piece: _Piece, speaker: str) -> Cue:
    start, end = piece.words[0].start, max(word.end for word in piece.words)
    return Cue(milliseconds(start), milliseconds(end), speaker, "\n".join(line.rstrip() for line in piece.lines.lines))


def spelled(segment: Segment) -> Iterator[str]:
    """Each word as the segment's text has it, with the space before it where there is one: not every language has
    spaces, and not every word stands in the text as it is."""
    text, end = segment.text, 0
    for word in segment.words:
        found = text.find(word.word, end)
        start = found if found >= 0 else end
        space = " " if text[end:start].isspace() else ""
        yield space + " ".join(word.word.split())
        end = start + len(word.word) if found >= 0 else end
