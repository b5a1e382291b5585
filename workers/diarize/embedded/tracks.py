"""Tracks: one local speaker of the segmentation network, followed from window to overlapping window.

The network is right where it tells two voices apart, and often wrong where it takes two for one. So a track is cut into
pieces short enough to find a change of speaker, and two tracks of one window are known to be two speakers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np
import numpy.typing as npt

from workers.diarize.embedded.frames import (
    EMBEDDING_FRAMES,
    FRAME_CENTER,
    FRAME_STEP,
    FRAMES,
    LOCAL_SPEAKERS,
    MEL_HOP,
    Windows,
)
from workers.diarize.turns import Mask, runs

FRAME_SECONDS = FRAME_STEP / 16_000

ONSET, OFFSET = 0.5, 0.4  # speech starts where the probability passes the one and lasts while it passes the other
FAINTEST = 0.1  # least probability of a track that is counted as one that speaks
AGREEMENT = 0.3  # least cosine similarity of the shared frames of two local speakers who are one
RUN_GAP = 18  # frames: a pause shorter than 0.3 s does not end a run of speech
PIECE_HOP = 120  # mel frames
ALONE = 40  # mel frames of undisturbed speech that make the frames with overlap dispensable
SHORTEST = 8  # mel frames that are worth an embedding


@dataclass(frozen=True, slots=True)
class Track:
    windows: range
    first: int  # the frame of the recording where `active` begins
    active: Mask  # (frames,): speaks, and is among the strongest tracks, of as many as speakers were counted
    probability: npt.NDArray[np.float32]  # (frames,): the mean of all windows that cover a frame


@dataclass(frozen=True, slots=True)
class Piece:
    """Up to 1.6 s of speech within one run of one track: what gets an embedding and a speaker."""

    track: int
    run: tuple[int, int]  # frames
    mel_frames: npt.NDArray[np.int64]
    weight: float  # 1 for a full piece of undisturbed speech

    @property
    def middle(self) -> float:
        """In frames."""
        return float((self.mel_frames.mean() * MEL_HOP - FRAME_CENTER) / FRAME_STEP)


def hysteresis(probability: npt.NDArray[np.float32]) -> Mask:
    active = np.zeros(len(probability), dtype=np.bool_)
    for start, end in runs(probability >= OFFSET):
        active[start:end] = probability[start:end].max() >= ONSET
    return active


def pair_up(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> dict[int, int]:
    """Which local speaker of a window was which of the window before, judged by the frames they share."""
    product = before.T @ after
    norms = np.sqrt(np.outer((before**2).sum(axis=0), (after**2).sum(axis=0))) + 1e-6
    local = range(LOCAL_SPEAKERS)
    best = max(permutations(local), key=lambda order: float(product[local, order].sum()))
    return {new: old for old, new in enumerate(best) if product[old, new] >= AGREEMENT * norms[old, new]}


def stitch(windows: Windows, starts: Sequence[int], counted: Windows | None = None) -> list[Track]:
    """Tracks of windows that start at the frames `starts` of the recording. counted: of the same windows, what tells
    how many speak, where that is another network's."""
    members: list[list[tuple[int, int]]] = []  # of each track: window, local speaker
    before: dict[int, int] = {}  # local speaker of the window before: track
    for window, (activity, start) in enumerate(zip(windows, starts, strict=True)):
        pairs: dict[int, int] = {}
        if before and (shift := start - starts[window - 1]) < FRAMES:
            pairs = pair_up(
                windows[window - 1][shift:].astype(np.float32), activity[: FRAMES - shift].astype(np.float32)
            )
        now: dict[int, int] = {}
        for speaker in np.flatnonzero(activity.max(axis=0) >= ONSET).tolist():
            track = before.get(pairs.get(speaker, -1))
            if track is None:
                track = len(members)
                members.append([])
            members[track].append((window, speaker))
            now[speaker] = track
        before = now

    cover = np.zeros(starts[-1] + FRAMES, dtype=np.float32)
    for start in starts:
        cover[start : start + FRAMES] += 1
    spans, probabilities = [], []
    for member in members:
        first, last = member[0][0], member[-1][0]
        span = slice(starts[first], starts[last] + FRAMES)
        total = np.zeros(span.stop - span.start, dtype=np.float32)
        for window, speaker in member:
            offset = starts[window] - span.start
            total[offset : offset + FRAMES] += windows[window][:, speaker]
        spans.append((range(first, last + 1), span.start))
        probabilities.append(total / cover[span])
    active = strongest(
        [first for _, first in spans], probabilities, count_speakers(windows if counted is None else counted, starts)
    )
    return [Track(*span, mask, own) for span, mask, own in zip(spans, active, probabilities, strict=True)]


def count_speakers(windows: Windows, starts: Sequence[int]) -> npt.NDArray[np.int8]:
    """How many speak in each frame of the recording.

    Each window's probabilities are sorted before their mean is taken: windows that disagree about who speaks still
    agree about how many do.
    """
    cover = np.zeros((starts[-1] + FRAMES, 1), dtype=np.float32)
    ranked = np.zeros((starts[-1] + FRAMES, LOCAL_SPEAKERS), dtype=np.float32)
    for activity, start in zip(windows, starts, strict=True):
        cover[start : start + FRAMES] += 1
        ranked[start : start + FRAMES] += np.sort(activity.astype(np.float32), axis=1)[:, ::-1]
    ranked /= np.maximum(cover, 1)
    count: npt.NDArray[np.int8] = np.sum([hysteresis(rank) for rank in ranked.T], axis=0, dtype=np.int8)
    return count


def strongest(
    firsts: Sequence[int], probabilities: Sequence[npt.NDArray[np.float32]], count: npt.NDArray[np.int8]
) -> list[Mask]:
    """Where each track, which begins at its frame of the recording, is among the `count` most probable ones."""
    best = np.zeros((LOCAL_SPEAKERS, len(count)), dtype=np.float32)  # of each frame, in descending order
    for first, own in zip(firsts, probabilities, strict=True):
        span, left = slice(first, first + len(own)), own
        for rank in best:
            rank[span], left = np.maximum(rank[span], left), np.minimum(rank[span], left)
    threshold = np.where(count > 0, best[np.maximum(count - 1, 0), np.arange(len(count))], np.inf)
    threshold = np.maximum(threshold, FAINTEST)
    return [own >= threshold[first : first + len(own)] for first, own in zip(firsts, probabilities, strict=True)]


def cut(tracks: Sequence[Track], phase: int | None = None) -> list[Piece]:
    """Cut the runs of every track into pieces, from speech that no other track disturbs where there is enough. phase:
    the mel frame at which the tracks begin, so that pieces stay the same where a run goes on (`fixed`); None: they are
    spread evenly."""
    frames = max((track.first + len(track.active) for track in tracks), default=0)
    voices = np.zeros(frames, dtype=np.int16)
    for track in tracks:
        voices[track.first : track.first + len(track.active)] += track.active
    pieces = []
    for index, track in enumerate(tracks):
        closed = track.active.copy()
        for (_, end), (start, _) in pairwise(runs(track.active)):
            if start - end <= RUN_GAP:
                closed[end:start] = True
        for start, end in runs(closed):
            run = (track.first + start, track.first + end)
            first, last = ((frame * FRAME_STEP + FRAME_CENTER) // MEL_HOP for frame in run)
            mel_frames = np.arange(first, last)
            frame = ((mel_frames * MEL_HOP - FRAME_CENTER) / FRAME_STEP).round().astype(np.int64)
            frame = frame.clip(run[0], run[1] - 1)
            active = track.active[frame - track.first]
            alone = active & (voices[frame] == 1)
            disturbed = alone.sum() < ALONE
            mel_frames = mel_frames[active if disturbed else alone]
            if len(mel_frames) < SHORTEST:
                continue
            for offset in even(len(mel_frames)) if phase is None else fixed(mel_frames, phase):
                chosen = mel_frames[offset : offset + EMBEDDING_FRAMES]
                weight = len(chosen) / EMBEDDING_FRAMES * (0.3 if disturbed else 1.0)
                pieces.append(Piece(index, run, chosen, weight))
    return pieces


def even(count: int) -> list[int]:
    """Where pieces begin that cover so many mel frames."""
    spare = max(0, count - EMBEDDING_FRAMES)
    starts: list[int] = np.linspace(0, spare, -(-spare // PIECE_HOP) + 1).round().astype(np.int64).tolist()
    return starts


def fixed(mel_frames: npt.NDArray[np.int64], phase: int) -> list[int]:
    """The same for a run that may go on, or whose beginning may be forgotten: every PIECE_HOP of the session, and at
    both ends where that leaves out much."""
    spare = max(0, len(mel_frames) - EMBEDDING_FRAMES)
    first, last = int(mel_frames[0]) + phase, int(mel_frames[spare]) + phase
    grid = np.arange(-(-first // PIECE_HOP) * PIECE_HOP, last + 1, PIECE_HOP) - phase
    starts = [start for start in np.searchsorted(mel_frames, grid).tolist() if start <= spare]
    if not starts or starts[0] > PIECE_HOP // 2:
        starts.insert(0, 0)
    if spare - starts[-1] > PIECE_HOP // 2:
        starts.append(spare)
    return starts
