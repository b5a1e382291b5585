"""Where a recording has speech, and how that speech is packed for a recognizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE

WINDOW = 512  # samples per probability of the voice activity detector
PIECE = 4_096  # windows per detector step: 131 s
LEAD = 64  # windows before its piece that a step gets too, so that the recurrent network has a state

SPEECH = 0.5  # at this probability speech starts ...
SILENCE = 0.35  # ... and below this one it ends
MIN_SILENCE = 0.16  # seconds: shorter gaps do not part two segments
MIN_SPEECH = 0.1
PAD = 0.2  # seconds of silence kept around a segment

CHUNK_SECONDS = 30.0

Span = tuple[int, int]  # first sample, last sample + 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Speech of one recording, with the silence between its spans left out."""

    audio: Samples
    spans: tuple[Span, ...]

    @property
    def size(self) -> int:
        return sum(end - start for start, end in self.spans)

    @property
    def seconds(self) -> float:
        return self.size / SAMPLE_RATE

    @property
    def bounds(self) -> Span:
        """Of all its spans."""
        return self.spans[0][0], self.spans[-1][1]

    def halves(self) -> list[Chunk]:
        """Two chunks of about the same size, parted between two spans if there are two."""
        if len(self.spans) == 1:
            [(start, end)] = self.spans
            middle = (start + end) // 2
            return [Chunk(self.audio, ((start, middle),)), Chunk(self.audio, ((middle, end),))]
        before = np.cumsum([end - start for start, end in self.spans])[:-1]
        cut = 1 + int(np.abs(before - self.size / 2).argmin())
        return [Chunk(self.audio, self.spans[:cut]), Chunk(self.audio, self.spans[cut:])]

    def samples(self) -> Samples:
        return np.concatenate([self.audio[start:end] for start, end in self.spans])

    def locate(self, start: float, end: float) -> tuple[float, float]:
        """Times in the chunk to times in the recording. A word is in the span that has its middle."""
        before = 0
        middle = (start + end) / 2 * SAMPLE_RATE
        for first, last in self.spans:
            if middle < before + last - first or (first, last) == self.spans[-1]:
                break
            before += last - first
        shift = (first - before) / SAMPLE_RATE
        low, high = first / SAMPLE_RATE, last / SAMPLE_RATE
        return min(max(start + shift, low), high), min(max(end + shift, low), high)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step of the detector gets."""

    audio: Samples
    first: int  # window

    def samples(self) -> tuple[Samples, int]:
        """Whole windows, shape (windows * WINDOW,), and how many of them are lead."""
        lead = min(LEAD, self.first)
        samples = self.audio[(self.first - lead) * WINDOW : (self.first + PIECE) * WINDOW]
        return np.pad(samples, (0, -samples.size % WINDOW)), lead


def pieces(audio: Samples) -> list[Piece]:
    return [Piece(audio, first) for first in range(0, math.ceil(audio.size / WINDOW), PIECE)]


def segments(probabilities: Samples, size: int) -> list[Span]:
    """Speech in a recording of `size` samples, padded, sorted, none longer than a chunk, none overlapping."""
    sure = np.where(probabilities >= SPEECH, 1, np.where(probabilities < SILENCE, -1, 0))
    last = np.maximum.accumulate(np.where(sure != 0, np.arange(sure.size), -1))
    speech = (last >= 0) & (sure[last] > 0)  # in between, it stays as it was
    edges = np.flatnonzero(np.diff(speech, prepend=False, append=False)) * WINDOW
    runs: list[Span] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if runs and start - runs[-1][1] < MIN_SILENCE * SAMPLE_RATE:
            start = runs.pop()[0]
        runs.append((start, min(end, size)))
    runs = [(start, end) for start, end in runs if end - start >= MIN_SPEECH * SAMPLE_RATE]

    pad = int(PAD * SAMPLE_RATE)
    found: list[Span] = []
    for index, (start, end) in enumerate(runs):
        before = (runs[index - 1][1] + start) // 2 if index else 0
        after = (end + runs[index + 1][0]) // 2 if index + 1 < len(runs) else size
        found += _split((max(start - pad, before), min(end + pad, after)), probabilities)
    return found


def _split(span: Span, probabilities: Samples) -> list[Span]:
    """Cut what is longer than a chunk where speech is least likely, in the second half of what fits."""
    start, end = span
    spans = []
    while end - start > CHUNK_SECONDS * SAMPLE_RATE:
        last = (start + int(CHUNK_SECONDS * SAMPLE_RATE)) // WINDOW
        first = (start // WINDOW + last) // 2
        cut = (first + int(np.argmin(probabilities[first:last]))) * WINDOW
        spans.append((start, cut))
        start = cut
    return [*spans, (start, end)]


def pack(audio: Samples, speech: Sequence[Span]) -> list[Chunk]:
    """Fill chunks with the segments in order. The silence between them is left out: it costs time and has no words."""
    packed: list[list[Span]] = []
    room = 0
    for start, end in speech:
        if end - start > room:
            packed.append([])
            room = int(CHUNK_SECONDS * SAMPLE_RATE)
        packed[-1].append((start, end))
        room -= end - start
    return [Chunk(audio, tuple(spans)) for spans in packed]
