"""What Whisper leaves out, and what it makes up: it may stop before the end of a chunk or skip the middle of it, and it
may hallucinate, as models that loop do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from msgspec.structs import replace

from workers.messages import SAMPLE_RATE, Word
from workers.whisper.vad import Chunk

GAP_SECONDS = 4.0  # of speech without a word are worth transcribing again,
PIECE_SECONDS = 8.0  # in pieces no longer than this: of a longer one it may leave out as much
# A longer word stands beside speech without words: the alignment stretched it over that.
LONGEST_WORD, USUAL_WORD = 1.0, 0.25  # seconds
# More words than can be said in so short a time: what a looping model writes once the speech has ended.
RUSH_WORDS, RUSH_SECONDS = 5, 0.25


def find(chunk: Chunk, words: Sequence[Word]) -> tuple[list[Word], list[Chunk]]:
    """The words, and the gaps between them, in pieces. Words that were stretched over a gap are moved to its end, or to
    its beginning where it ends the chunk."""
    if all(map(_stretched, words)):
        return list(words), []
    kept: list[Word] = []
    found: list[Chunk] = []
    stretched: list[Word] = []  # since the last word that was not
    last = chunk.spans[0][0] / SAMPLE_RATE
    for word in words:
        if _stretched(word):
            stretched.append(word)
            continue
        if gap := _between(chunk, last, word.start):
            found.append(gap)
            stretched = _in_a_row(stretched, word.start - USUAL_WORD * len(stretched))
        kept += [*stretched, word]
        stretched, last = [], word.end
    if gap := _between(chunk, last, chunk.spans[-1][1] / SAMPLE_RATE):
        found.append(gap)
        stretched = _in_a_row(stretched, last)
    return kept + stretched, [piece for gap in found for piece in _pieces(gap)]


def without_hallucinations(words: Sequence[Word]) -> list[Word]:
    """The words without those that the model made up."""
    rushed = {
        index + offset
        for index in range(len(words) - RUSH_WORDS + 1)
        if words[index + RUSH_WORDS - 1].end - words[index].start < RUSH_SECONDS
        for offset in range(RUSH_WORDS)
    }
    return [word for index, word in enumerate(words) if index not in rushed]


def _stretched(word: Word) -> bool:
    return word.end - word.start > LONGEST_WORD


def _in_a_row(words: Sequence[Word], start: float) -> list[Word]:
    starts = [round(start + USUAL_WORD * index, 3) for index in range(len(words))]
    return [replace(word, start=at, end=round(at + USUAL_WORD, 3)) for word, at in zip(words, starts, strict=True)]


def _pieces(gap: Chunk) -> list[Chunk]:
    return [piece for half in gap.halves() for piece in _pieces(half)] if gap.seconds > PIECE_SECONDS else [gap]


def _between(chunk: Chunk, start: float, end: float) -> Chunk | None:
    """The chunk's speech between two times, if it is long enough to be a gap."""
    first, last = int(start * SAMPLE_RATE), int(end * SAMPLE_RATE)
    clipped = ((max(first, begin), min(last, stop)) for begin, stop in chunk.spans)
    spans = tuple(span for span in clipped if span[1] - span[0] > USUAL_WORD * SAMPLE_RATE)
    gap = dataclasses.replace(chunk, spans=spans)
    return gap if gap.seconds >= GAP_SECONDS else None
