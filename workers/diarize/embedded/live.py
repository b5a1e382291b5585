"""Turns of audio that keeps arriving (docs/live.md): the offline networks and the offline clustering, again and again.

With every hop of new audio one more window is segmented. The windows of the last minute make tracks and pieces as
offline, and all pieces are clustered anew, together with some that are remembered of each speaker. So what is known so
far is judged as offline, and what is known later corrects what was told of the last minute.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from workers.diarize.embedded.clustering import LEAST_SPEECH
from workers.diarize.embedded.frames import FRAME_CENTER, FRAME_STEP, FRAMES, LOUDNESS, MEL_HOP, SILENCE, WINDOW
from workers.diarize.embedded.memory import Memory, Remembered
from workers.diarize.embedded.names import Name, Votes, elected, match, voted
from workers.diarize.embedded.speech import nearest_pieces, separated
from workers.diarize.embedded.tracks import FRAME_SECONDS, Piece, Track, cut, stitch
from workers.diarize.embeddings import Bounds, Vectors, compact, pooled
from workers.diarize.turns import PAUSE, SHORTEST_TURN, Mask, closed, runs, speaker_name, speaker_number
from workers.engine import Await, Emit, LiveSteps, WorkItem
from workers.media.samples import PCM_SCALE, Samples
from workers.messages import SAMPLE_RATE, AudioRef, Follow, Turn
from workers.messages.live import Append, LiveEnd, LiveTurns

HOP = 32  # frames from window to window, 0.54 s: a multiple of 16, so that mel frames keep one grid
HOP_SAMPLES = HOP * FRAME_STEP
KEPT = 112  # windows that tracks are made of: the last 65 s
EDGE = 9  # hops: what the first windows say is less than all that was heard of their 5 s
FIRST = -8  # the hop of the first window, of 0.7 s; before hop 0 windows start at 0 and their end is silence
UNSETTLED = 0.7  # seconds before the newest sample: what is told sooner is wrong more often, and words can wait so long
YOUNG = 3.0  # seconds before the newest piece in which a cluster may still grow: it is a speaker as offline
OLD_LEAST = 1.5  # weight that makes a speaker of an older cluster: 1.0 leaves false ones, DER 0.198 and not 0.189
MOST_SPEAKERS = 32  # where a request names no number: as many as are counted offline; it bounds the state

Key = tuple[int, int, int]  # of a piece: its first and last mel frame of the session, and how many it has


class State(msgspec.Struct, array_like=True):
    """What a session goes on with in another worker: 5 kB a speaker, whatever its length."""

    hop: int = FIRST  # that comes next
    energy: float = 0.0  # of all samples up to `measured`
    measured: int = 0
    memory: list[Remembered] = []
    turns: list[tuple[float, float, str]] = []  # of the last output


class Known(msgspec.Struct):
    """A recent piece."""

    voice: Vectors
    weight: float
    middle: float  # seconds
    name: Name | None = None
    votes: Votes = {}


class Follower:
    """A session: the last windows, and the speakers so far. Times are seconds from the session's start."""

    def __init__(self, most: int | None, resume: bytes = b"") -> None:
        self.most = min(most or MOST_SPEAKERS, MOST_SPEAKERS)
        state = msgspec.msgpack.decode(resume, type=State) if resume else State()
        self.hop, self.energy, self.measured = state.hop, state.energy, state.measured
        self.memory = Memory(state.memory)
        self.turns = [Turn(*turn) for turn in state.turns]
        self.resumed = bool(resume)  # names of recent pieces are known by turns only
        self.windows: dict[int, npt.NDArray[np.float16]] = {}  # by the hop at which they start
        self.known: dict[Key, Known] = {}

    @property
    def needed(self) -> int:
        """Samples that the next window ends with."""
        return self.hop * HOP_SAMPLES + WINDOW

    @property
    def origin(self) -> int:
        """The sample at which the windows that count begin."""
        return max(0, self.hop - KEPT + 1) * HOP_SAMPLES

    @property
    def since(self) -> float:
        """Seconds from which on turns may change."""
        return edge(self.origin + 2 * EDGE * HOP_SAMPLES) if self.origin else 0.0

    @property
    def floor(self) -> float:
        """Seconds before which pieces are older than what the windows tell well."""
        return edge(self.origin + EDGE * HOP_SAMPLES) if self.origin else 0.0

    def state(self) -> bytes:
        turns = [(turn.start, turn.end, turn.speaker) for turn in self.turns]
        return msgspec.msgpack.encode(State(self.hop, self.energy, self.measured, self.memory.pieces, turns))

    def step(self, samples: Samples) -> Generator[list[WorkItem], list[Any], LiveTurns]:
        """The window of this hop. samples: from `origin` to at most `needed`, (samples,)."""
        origin, past = self.origin, self.origin + len(samples)
        yield from self.segment(samples, origin, past)
        first = origin // HOP_SAMPLES
        tracks = stitch(np.stack(list(self.windows.values())), frames(list(self.windows), first))
        start, since, until = edge(origin), self.since, past / SAMPLE_RATE
        pieces = [
            piece
            for piece in cut(tracks, phase=origin // MEL_HOP)
            if start + piece.middle * FRAME_SECONDS >= self.floor
        ]
        keys = [key_of(piece, origin) for piece in pieces]
        changed = yield from self.embed(samples, pieces, keys, start)
        self.remember(keys)
        active: Mask = np.zeros((0, 0), dtype=np.bool_)
        if pieces:
            if changed:
                yield from self.cluster(pieces, tracks, keys)
            active = self.active(pieces, tracks, keys)
        self.turns = turns_since(since, active, start, until, self.turns)
        self.hop += 1
        return LiveTurns(tuple(self.turns), since, max(0.0, until - UNSETTLED), self.state())

    def segment(self, samples: Samples, origin: int, past: int) -> Generator[list[WorkItem], list[Any], None]:
        """The windows from `origin` on that are not there yet: one, or after a change of worker all."""
        new = samples[self.measured - origin :]
        self.energy, self.measured = self.energy + float(np.dot(new, new)), past
        # As offline, by the loudness of what was heard so far.
        gain = LOUDNESS / max(SILENCE, math.sqrt(self.energy / max(1, past)))
        first, last = origin // HOP_SAMPLES, max(0, self.hop)
        missing = [hop for hop in range(first, last + 1) if hop == last or hop not in self.windows]
        found = yield [
            WorkItem("segment", (samples, range(start, start + 1), gain)) for start in frames(missing, first)
        ]
        for hop, activity in zip(missing, found, strict=True):
            self.windows[hop] = unheard(activity[0], past - hop * HOP_SAMPLES)
        self.windows = {hop: self.windows[hop] for hop in range(first, last + 1)}

    def embed(
        self, samples: Samples, pieces: Sequence[Piece], keys: Sequence[Key], start: float
    ) -> Generator[list[WorkItem], list[Any], bool]:
        """Of the pieces that were not heard before; whether there were any."""
        fresh = {key: piece for key, piece in zip(keys, pieces, strict=True) if key not in self.known}
        if fresh:
            voices = yield [WorkItem("embed", (samples, piece.mel_frames)) for piece in fresh.values()]
            for (key, piece), voice in zip(fresh.items(), voices, strict=True):
                middle = start + piece.middle * FRAME_SECONDS
                name = name_told(self.turns, key) if self.resumed else None
                self.known[key] = Known(voice, piece.weight, middle, name, {} if name is None else {name: 1.0})
            self.resumed = False
        return bool(fresh)

    def remember(self, keys: Sequence[Key]) -> None:
        """Pieces that got too old. Those that were cut otherwise meanwhile are forgotten."""
        for piece in self.known.values():
            if piece.middle < self.floor and piece.name is not None:
                self.memory.add(piece.voice, piece.weight, piece.name)
        self.known = {key: self.known[key] for key in keys}

    def cluster(
        self, pieces: Sequence[Piece], tracks: Sequence[Track], keys: Sequence[Key]
    ) -> Generator[list[WorkItem], list[Any], None]:
        """Give all recent pieces their names."""
        known = [self.known[key] for key in keys]
        old, old_tracks = self.memory.tracks(len(tracks))
        everything = [*pieces, *old]
        voices = np.stack([piece.voice for piece in (*known, *self.memory)])
        # No least number of speakers: who has not spoken yet cannot be told apart.
        young = max(piece.middle for piece in known) - YOUNG
        least = np.full(len(everything), LEAST_SPEECH, dtype=np.float32)
        least[: len(known)][[piece.middle < young for piece in known]] = OLD_LEAST
        payload = (voices, everything, [*tracks, *old_tracks], Bounds(1, self.most), least)
        [(labels, _)] = yield [WorkItem("cluster", payload)]
        names = match(
            compact(labels),
            [piece.weight for piece in everything],
            [*(piece.votes for piece in known), *({piece.name: 1.0} for piece in self.memory)],
            {piece.name for piece in self.memory},
            self.most,
        )
        for piece, label in zip(known, compact(labels).tolist(), strict=False):
            piece.votes = voted(piece.votes, names[label])
            piece.name = elected(piece.votes, piece.name)

    def active(self, pieces: Sequence[Piece], tracks: Sequence[Track], keys: Sequence[Key]) -> Mask:
        """Where each name speaks, (names, frames) of the tracks."""
        known = [self.known[key] for key in keys]
        names, labels = np.unique([piece.name or 0 for piece in known], return_inverse=True)
        voices = np.stack([piece.voice for piece in known])
        weights = np.array([piece.weight for piece in known], dtype=np.float32)
        centred: Vectors = voices - (weights @ voices) / weights.sum()
        nearest = nearest_pieces(pieces, tracks)
        bounds = Bounds(1, len(names))  # only clustering makes new speakers
        found, _, _ = separated(labels, centred, pooled(centred, weights, labels), nearest, tracks, bounds)
        active = np.zeros((int(names[-1]) + 1, found.shape[1]), dtype=np.bool_)
        active[names] = found
        return active


def follow(request: Follow) -> LiveSteps:
    """The job of one session."""
    follower = Follower(request.num_speakers or request.max_speakers, request.resume)
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


def key_of(piece: Piece, origin: int) -> Key:
    first = origin // MEL_HOP
    return first + int(piece.mel_frames[0]), first + int(piece.mel_frames[-1]), len(piece.mel_frames)


def name_told(turns: Sequence[Turn], key: Key) -> Name | None:
    """Whose turns cover most of a piece."""
    start, end = (frame * MEL_HOP / SAMPLE_RATE for frame in key[:2])
    shared: dict[str, float] = {}
    for turn in turns:
        shared[turn.speaker] = shared.get(turn.speaker, 0.0) + max(0.0, min(end, turn.end) - max(start, turn.start))
    speaker = max(shared, key=shared.__getitem__, default=None)
    return speaker_number(speaker) if speaker and shared[speaker] else None


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
