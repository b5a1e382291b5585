"""Speech that Whisper passed over: it may stop early, or leave out the middle of what it hears; and words that nobody
said."""

from __future__ import annotations

from collections.abc import Sequence

from workers.messages import SAMPLE_RATE, Word
from workers.whisper.vad import Chunk

GAP_SECONDS = 4.0  # of speech without a word are worth listening to again,
PIECE_SECONDS = 8.0  # in pieces no longer than this: in a longer one it may pass over as much
# A word that seems longer stands beside speech without words, over which the alignment stretched it.
LONGEST_WORD, USUAL_WORD = 1.0, 0.25  # seconds
# Nobody says so many words in so short a time: a model that loops does, when there is nothing left to hear.
RUSH_WORDS, RUSH_SECONDS = 5, 0.25


def find(chunk: Chunk, words: Sequence[Word]) -> tuple[list[Word], list[Chunk]]:
    """The words, and pieces of the gaps between them. Words that were stretched over a gap go where the next ones
    begin, or, at the end of the chunk, where the last ones ended."""
    if all(map(_stretched, words)):
        return list(words), []
    settled: list[Word] = []
    found: list[Chunk] = []
    stretched: list[Word] = []  # since the last sure word, which ended at
    last = chunk.spans[0][0] / SAMPLE_RATE
    for word in words:
        if _stretched(word):
            stretched.append(word)
            continue
        if gap := _between(chunk, last, word.start):
            found.append(gap)
            stretched = _row(stretched, word.start - USUAL_WORD * len(stretched))
        settled += [*stretched, word]
        stretched, last = [], word.end
    if gap := _between(chunk, last, chunk.spans[-1][1] / SAMPLE_RATE):
        found.append(gap)
        stretched = _row(stretched, last)
    return settled + stretched, [piece for gap in found for piece in _pieces(gap)]


def heard(words: Sequence[Word]) -> list[Word]:
    """The words without those that were never said."""
    rushed = {
        place + offset
        for place in range(len(words) - RUSH_WORDS + 1)
        if words[place + RUSH_WORDS - 1].end - words[place].start < RUSH_SECONDS
        for offset in range(RUSH_WORDS)
    }
    return [word for place, word in enumerate(words) if place not in rushed]


def _stretched(word: Word) -> bool:
    return word.end - word.start > LONGEST_WORD


def _row(words: Sequence[Word], start: float) -> list[Word]:
    starts = [round(start + USUAL_WORD * place, 3) for place in range(len(words))]
    return [word._replace(start=at, end=round(at + USUAL_WORD, 3)) for word, at in zip(words, starts, strict=True)]


def _pieces(gap: Chunk) -> list[Chunk]:
    return [piece for half in gap.halves() for piece in _pieces(half)] if gap.seconds > PIECE_SECONDS else [gap]


def _between(chunk: Chunk, start: float, end: float) -> Chunk | None:
    """The chunk's speech between two times, if it is long enough to be a gap."""
    first, last = int(start * SAMPLE_RATE), int(end * SAMPLE_RATE)
    clipped = ((max(first, begin), min(last, stop)) for begin, stop in chunk.spans)
    spans = tuple(span for span in clipped if span[1] - span[0] > USUAL_WORD * SAMPLE_RATE)
    gap = Chunk(chunk.audio, spans)
    return gap if gap.seconds >= GAP_SECONDS else None
