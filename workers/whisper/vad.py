"""Where a recording has speech, and how that speech is packed for a recognizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

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
# The voice of another channel that is heard in this one too is no speech of this one: below this share of the power of
# the loudest other, which is -10 dB. Measured over this many windows to either side, 0.1 s.
CROSSTALK, BESIDE = 0.1, 3

Span = tuple[int, int]  # first sample, last sample + 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Speech of one recording, with the silence between its spans left out."""

    audio: Samples
    spans: tuple[Span, ...]
    channel: int = 0  # whose words they are, where channels were kept apart

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
            return [replace(self, spans=((start, middle),)), replace(self, spans=((middle, end),))]
        before = np.cumsum([end - start for start, end in self.spans])[:-1]
        cut = 1 + int(np.abs(before - self.size / 2).argmin())
        return [replace(self, spans=self.spans[:cut]), replace(self, spans=self.spans[cut:])]

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
    others: tuple[Samples, ...] = ()  # the recording's other channels, as long

    def samples(self) -> tuple[Samples, int]:
        """Whole windows, shape (windows * WINDOW,), and how many of them are lead."""
        lead = min(LEAD, self.first)
        samples = self.audio[(self.first - lead) * WINDOW : (self.first + PIECE) * WINDOW]
        return np.pad(samples, (0, -samples.size % WINDOW)), lead

    def own(self) -> npt.NDArray[np.bool_]:
        """Of its windows, those in which this channel is not only the echo of another, shape (windows,)."""
        power = _power(self.samples()[0])
        loudest = np.max([_power(Piece(other, self.first).samples()[0]) for other in self.others], axis=0, initial=0.0)
        return np.asarray(power >= CROSSTALK * loudest)


def pieces_of(channels: Sequence[Samples]) -> list[list[Piece]]:
    """Of each channel of a recording, in order of time."""
    return [
        [
            Piece(audio, first, tuple(other for other in channels if other is not audio))
            for first in range(0, math.ceil(audio.size / WINDOW), PIECE)
        ]
        for audio in channels
    ]


def chunks_of(
    channels: Sequence[Samples], parts: Sequence[Sequence[Piece]], probabilities: Sequence[Samples]
) -> list[Chunk]:
    """The speech of all channels in order of time. `probabilities`: of the windows of each piece, one after the
    other."""
    given = iter(probabilities)
    chunks: list[Chunk] = []
    for channel, (audio, some) in enumerate(zip(channels, parts, strict=True)):
        if some:
            likely = np.concatenate([next(given) for _ in some])
            chunks += pack(audio, segments(likely, audio.size), channel)
    return sorted(chunks, key=lambda chunk: chunk.bounds)


def _power(samples: Samples) -> Samples:
    """Mean square of each window and those beside it, shape (windows,)."""
    power = np.square(samples.reshape(-1, WINDOW)).mean(axis=1)
    near = np.ones(2 * BESIDE + 1) / (2 * BESIDE + 1)
    return np.convolve(np.pad(power, BESIDE), near, mode="valid").astype(np.float32)


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


def pack(audio: Samples, speech: Sequence[Span], channel: int = 0) -> list[Chunk]:
    """Fill chunks with the segments in order. The silence between them is left out: it costs time and has no words."""
    packed: list[list[Span]] = []
    room = 0
    for start, end in speech:
        if end - start > room:
            packed.append([])
            room = int(CHUNK_SECONDS * SAMPLE_RATE)
        packed[-1].append((start, end))
        room -= end - start
    return [Chunk(audio, tuple(spans), channel) for spans in packed]
