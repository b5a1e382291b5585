"""Turns of audio that keeps arriving (docs/live.md): the offline networks, over windows that end at the newest samples.

With every hop of new audio one more window is segmented. The last windows make tracks and pieces as offline; pieces
that were not heard before get an embedding, and online clusters a speaker. What is older than the newest window does
not change any more.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from workers.diarize.embedded.fbank import MEL_HOP
from workers.diarize.embedded.online import Centroid, Centroids
from workers.diarize.embedded.segmentation import FRAME_CENTER, FRAME_STEP, FRAMES, LOUDNESS, SILENCE, WINDOW
from workers.diarize.embedded.speech import nearest_pieces, separated
from workers.diarize.embedded.tracks import FRAME_SECONDS, Piece, cut, stitch
from workers.diarize.embeddings import Bounds, Labels, Vectors
from workers.diarize.turns import PAUSE, SHORTEST_TURN, Mask, closed, runs, speaker_name
from workers.engine import Await, Emit, LiveSteps, WorkItem
from workers.media.samples import PCM_SCALE, Samples
from workers.messages import SAMPLE_RATE, AudioRef, Follow, Turn
from workers.messages.live import Append, LiveEnd, LiveTurns

HOP = 32  # frames from window to window, 0.54 s: a multiple of 16, so that mel frames keep one grid
HOP_SAMPLES = HOP * FRAME_STEP
KEPT = 8  # windows that tracks are made of: the last 8.8 s
FIRST = -8  # the hop of the first window, of 0.7 s; before hop 0 windows start at 0 and their end is silence
UNSETTLED = 0.3  # seconds before the newest sample that the next window judges better


class State(msgspec.Struct):
    """What a session goes on with in another worker: 1 kB a speaker, whatever its length."""

    hop: int  # that comes next
    settled: float  # seconds: pieces up to there are in the centroids
    energy: float  # of all samples up to `measured`
    measured: int
    centroids: list[Centroid]
    turns: list[tuple[float, float, str]]  # of the last output


class Follower:
    """A session: the last windows, and the speakers so far. Times are seconds from the session's start."""

    def __init__(self, bounds: Bounds, resume: bytes = b"") -> None:
        self.bounds = bounds
        state = msgspec.msgpack.decode(resume, type=State) if resume else State(FIRST, 0.0, 0.0, 0, [], [])
        self.hop, self.settled, self.energy, self.measured = state.hop, state.settled, state.energy, state.measured
        self.centroids = Centroids(state.centroids)
        self.turns = [Turn(*turn) for turn in state.turns]
        self.windows: dict[int, npt.NDArray[np.float16]] = {}  # by the hop at which they start
        self.embedded: dict[tuple[int, int, int], Vectors] = {}  # embeddings by first and last mel frame, and count

    @property
    def needed(self) -> int:
        """Samples that the next window ends with."""
        return self.hop * HOP_SAMPLES + WINDOW

    @property
    def origin(self) -> int:
        """The sample at which the windows that count begin."""
        return max(0, self.hop - KEPT + 1) * HOP_SAMPLES

    def state(self) -> bytes:
        turns = [(turn.start, turn.end, turn.speaker) for turn in self.turns]
        known = State(self.hop, self.settled, self.energy, self.measured, self.centroids.state(), turns)
        return msgspec.msgpack.encode(known)

    def step(self, samples: Samples) -> Generator[list[WorkItem], list[Any], LiveTurns]:
        """The window of this hop. samples: from `origin` to at most `needed`, (samples,)."""
        origin, past = self.origin, self.origin + len(samples)
        new = samples[self.measured - origin :]
        self.energy, self.measured = self.energy + float(np.dot(new, new)), past
        # As offline, by the loudness of what was heard so far.
        gain = LOUDNESS / max(SILENCE, math.sqrt(self.energy / max(1, past)))
        first, last = origin // HOP_SAMPLES, max(0, self.hop)
        missing = [hop for hop in range(first, last + 1) if hop == last or hop not in self.windows]
        items = [WorkItem("segment", (samples, range(start, start + 1), gain)) for start in frames(missing, first)]
        found = yield items
        for hop, activity in zip(missing, found, strict=True):
            self.windows[hop] = unheard(activity[0], past - hop * HOP_SAMPLES)
        self.windows = {hop: self.windows[hop] for hop in range(first, last + 1)}
        tracks = stitch(np.stack(list(self.windows.values())), frames(list(self.windows), first))
        pieces = cut(tracks)
        keys = [key_of(piece, origin) for piece in pieces]
        fresh = {key: piece for key, piece in zip(keys, pieces, strict=True) if key not in self.embedded}
        if fresh:
            embeddings = yield [WorkItem("embed", (samples, piece.mel_frames)) for piece in fresh.values()]
            self.embedded |= dict(zip(fresh, embeddings, strict=True))
        self.embedded = {key: self.embedded[key] for key in keys}
        self.hop += 1
        since, heard = max(0.0, edge(last * HOP_SAMPLES)) if last else 0.0, past / SAMPLE_RATE
        active: Mask = np.zeros((0, 0), dtype=np.bool_)
        if pieces:
            voices = np.stack([self.embedded[key] for key in keys])
            labels, centroids = self.centroids.label(voices, pieces, self.bounds)
            nearest = nearest_pieces(pieces, tracks)
            known = Bounds(1, len(centroids))
            active, _, _ = separated(labels, voices, centroids, nearest, tracks, known)
            self.settle(voices, labels, pieces, edge(origin), since)
        self.settled = since
        self.turns = turns_since(since, active, edge(origin), heard, self.turns)
        return LiveTurns(tuple(self.turns), since, max(0.0, heard - UNSETTLED), self.state())

    def settle(self, voices: Vectors, labels: Labels, pieces: Sequence[Piece], start: float, until: float) -> None:
        """Pieces whose middle lies before `until` join their speaker; labels are in order of their first piece."""
        for index in sorted(range(len(pieces)), key=lambda index: pieces[index].middle):
            if self.settled <= start + pieces[index].middle * FRAME_SECONDS < until:
                self.centroids.settle(voices[index], int(labels[index]), pieces[index].weight)


def follow(request: Follow) -> LiveSteps:
    """The job of one session."""
    most = request.num_speakers or request.max_speakers
    follower = Follower(Bounds(request.num_speakers or request.min_speakers or 1, most), request.resume)
    while True:
        more: Append = yield Await(follower.needed)
        while follower.needed <= more.samples:
            yield Emit((yield from follower.step(read(request.audio, follower.origin, follower.needed))))
        if more.end:
            if more.samples > follower.measured:
                output = yield from follower.step(read(request.audio, follower.origin, more.samples))
                yield Emit(LiveTurns(output.turns, output.since, more.samples / SAMPLE_RATE, output.state))
            return LiveEnd("embedded")


def read(audio: AudioRef, first: int, past: int) -> Samples:
    """Some of a growing file's 16-bit samples."""
    return np.fromfile(audio.path, "<i2", past - first, offset=(audio.pcm or 0) + 2 * first) * PCM_SCALE


def frames(hops: Sequence[int], origin: int) -> list[int]:
    return [(hop - origin) * HOP for hop in hops]


def unheard(activity: npt.NDArray[np.float16], samples: int) -> npt.NDArray[np.float16]:
    """A window's activity (frames, local speakers), nothing in the silence that stands for samples still to come."""
    heard = np.arange(FRAMES) * FRAME_STEP + FRAME_CENTER < samples
    return np.where(heard[:, None], activity, np.float16(0))


def key_of(piece: Piece, origin: int) -> tuple[int, int, int]:
    first = origin // MEL_HOP
    return first + int(piece.mel_frames[0]), first + int(piece.mel_frames[-1]), len(piece.mel_frames)


def edge(sample: int) -> float:
    """Where the first frame of a window begins that starts at this sample."""
    return (sample + FRAME_CENTER - FRAME_STEP / 2) / SAMPLE_RATE


def turns_since(since: float, active: Mask, start: float, end: float, before: Sequence[Turn]) -> list[Turn]:
    """The turns that end after `since`, of speech (speakers, frames) that begins at `start`: those that were begun
    earlier keep their start."""
    found = []
    for speaker, mask in enumerate(active):
        name = speaker_name(speaker)
        mask = mask.copy()
        mask[: max(0, round((since - start) / FRAME_SECONDS))] = False
        spans = [(start + a * FRAME_SECONDS, min(start + b * FRAME_SECONDS, end)) for a, b in runs(mask)]
        begun = [turn.start for turn in before if turn.speaker == name and turn.start < since <= turn.end]
        if spans and begun and spans[0][0] - since < PAUSE:
            spans[0] = (min(begun), spans[0][1])
        own = [span for span in closed(spans, PAUSE) if span[1] - span[0] >= SHORTEST_TURN]
        found += [Turn(round(a, 3), round(b, 3), name) for a, b in own]
    return sorted(found, key=lambda turn: (turn.start, turn.speaker))
