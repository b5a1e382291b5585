"""Who speaks in each frame: tracks that are active at the same time are different speakers.

Clustering gives every piece its speaker by its voice alone, and overlapped voices mislead it. Where two tracks that
speak at once came out as one speaker, the less probable one gets the speaker whose voice is the most alike of those who
are not speaking; where all are, an overlap that lasts makes one more speaker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workers.diarize.embedded.tracks import Piece, Track
from workers.diarize.embeddings import Bounds, Labels, Vectors, pooled, unit_length
from workers.diarize.turns import Mask, runs

NEW_SPEAKER = 30  # frames, 0.5 s: an overlap of two tracks that lasts as long shows a speaker whom clustering missed

# By how much less a voice is like one speaker's than like the likest's, in cosine similarity, for a level of 1/e. Its
# levels tell wrong words from right ones best: AUC 0.86, 0.88 and 0.89 at 0.2, 0.4 and 0.8.
LIKENESS = 0.8

Indices = npt.NDArray[np.int64]  # (frames,) of a track: of a piece or a speaker, -1 where there is none
Clash = tuple[int, int, int, int]  # first and past-the-last frame; the more and the less probable track
Taken = tuple[int, slice, int]  # track, its frames, whose they cannot be: the stronger track's speaker's


class Speech(NamedTuple):
    active: Mask  # (speakers, frames)
    levels: Vectors  # (speakers, frames): how well a frame fits a speaker, from 0 to 1


def speech_of(
    labels: Labels, voices: Vectors, pieces: Sequence[Piece], tracks: Sequence[Track], bounds: Bounds
) -> Speech:
    """`voices`: the pieces' embeddings (pieces, dimension), centred, of unit length."""
    weights = np.array([piece.weight for piece in pieces], dtype=np.float32)
    nearest = nearest_pieces(pieces, tracks)
    active, centroids, taken = separated(labels, voices, pooled(voices, weights, labels), nearest, tracks, bounds)
    spoken = active.any(axis=1)
    alike = np.array([np.exp((voice - voice.max()) / LIKENESS) for voice in voices @ centroids.T])
    return Speech(active[spoken], levels_of(alike, nearest, tracks, taken)[spoken])


def separated(
    labels: Labels,
    voices: Vectors,
    centroids: Vectors,
    nearest: Sequence[Indices],
    tracks: Sequence[Track],
    bounds: Bounds,
) -> tuple[Mask, Vectors, list[Taken]]:
    """Where each speaker speaks (speakers, frames), by the speakers' voices `centroids`; these with those of speakers
    who were found only now, in the last rows; and the parts of tracks that got another speaker than their label."""
    speaker = [np.where(own >= 0, labels[own], -1) for own in nearest]
    frames = max(track.first + len(track.active) for track in tracks)
    voice_count = np.zeros((len(centroids), frames), dtype=np.int8)  # tracks of each speaker
    for track, of in zip(tracks, speaker, strict=True):
        inside = np.flatnonzero(of >= 0)
        voice_count[of[inside], track.first + inside] += 1

    taken: list[Taken] = []
    for start, end, stronger, weaker in clashes(tracks, speaker):
        part = slice(start - tracks[weaker].first, end - tracks[weaker].first)
        own = speaker[weaker][part]
        if (own != speaker[stronger][start - tracks[stronger].first :][: end - start]).any():
            continue  # a clash with a third track has given one of them another speaker
        voice_count[own[0], start:end] -= 1
        taken.append((weaker, part, int(own[0])))
        heard = voices[np.unique(nearest[weaker][part])]
        free = np.flatnonzero(~voice_count[:, start:end].any(axis=1))
        if len(free):
            chosen = int(free[(heard @ centroids[free].T).mean(axis=0).argmax()])
        elif end - start >= NEW_SPEAKER and (bounds.most is None or len(centroids) < bounds.most):
            chosen = len(centroids)
            centroids = np.vstack([centroids, unit_length(heard.mean(axis=0, keepdims=True))])
            voice_count = np.vstack([voice_count, np.zeros((1, frames), dtype=np.int8)])
        else:
            own[:] = -1
            continue
        own[:] = chosen
        voice_count[chosen, start:end] += 1
    return voice_count > 0, centroids, taken


def levels_of(alike: Vectors, nearest: Sequence[Indices], tracks: Sequence[Track], taken: Sequence[Taken]) -> Vectors:
    """How well each frame fits each speaker: the probability of the tracks that speak in it, of which the speaker whose
    voice is the likest gets all, and others the less the less alike. alike (pieces, speakers), at most 1."""
    frames = max(track.first + len(track.active) for track in tracks)
    levels = np.zeros((alike.shape[1], frames), dtype=np.float32)
    for number, (track, piece) in enumerate(zip(tracks, nearest, strict=True)):
        heard = np.flatnonzero(piece >= 0)
        if not len(heard):
            continue
        # Where the track is silent the nearest piece counts, by its probability there.
        around = heard[np.searchsorted((heard[1:] + heard[:-1]) / 2, np.arange(len(piece)))]
        shares = alike[piece[around]]
        for _, part, speaker in (some for some in taken if some[0] == number):
            shares[part, speaker] = 0
        shares /= np.maximum(shares.max(axis=1, keepdims=True), 1e-9)
        levels[:, track.first : track.first + len(piece)] += shares.T * track.probability
    return np.minimum(levels, 1, out=levels)


def nearest_pieces(pieces: Sequence[Piece], tracks: Sequence[Track]) -> list[Indices]:
    """For each active frame of every track, the nearest piece of its run."""
    found = [np.full(len(track.active), -1, dtype=np.int64) for track in tracks]
    by_run: dict[tuple[int, tuple[int, int]], list[int]] = {}
    for index, piece in enumerate(pieces):
        by_run.setdefault((piece.track, piece.run), []).append(index)
    for (track, (start, end)), members in by_run.items():
        middles = np.array([pieces[index].middle for index in members])
        nearest = np.array(members)[np.searchsorted((middles[1:] + middles[:-1]) / 2, np.arange(start, end))]
        run = slice(start - tracks[track].first, end - tracks[track].first)
        found[track][run] = np.where(tracks[track].active[run], nearest, -1)
    return found


def clashes(tracks: Sequence[Track], speaker: Sequence[Indices]) -> Iterator[Clash]:
    """Where two tracks are active at the same time and have one speaker, in order of time."""
    found: list[Clash] = []
    near: list[int] = []  # earlier tracks that may not have ended
    for number, track in enumerate(tracks):
        near = [other for other in near if tracks[other].first + len(tracks[other].active) > track.first]
        for other in near:
            before = tracks[other]
            start, end = track.first, min(track.first + len(track.active), before.first + len(before.active))
            one, two = slice(start - before.first, end - before.first), slice(0, end - start)
            same = (speaker[other][one] >= 0) & (speaker[other][one] == speaker[number][two])
            for first, past in runs(same):
                lead = before.probability[one][first:past].sum() - track.probability[two][first:past].sum()
                pair = (other, number) if lead >= 0 else (number, other)
                # The speaker is one for the run: where it changes within, a run ends.
                edges = np.flatnonzero(np.diff(speaker[number][two][first:past])) + 1
                borders = [first, *(first + edges).tolist(), past]
                found += [(start + a, start + b, *pair) for a, b in pairwise(borders)]
        near.append(number)
    return iter(sorted(found))
