"""Which speaker each piece belongs to: NVIDIA NeMo's NME-SC counts and clusters (nme_sc.py); merging refines.

NME-SC counts well where pieces are many and too many where they are few, so its count is where merging starts: two
clusters are one speaker where their mean embeddings are as alike as those of one speaker are. Between merges every
track is decoded again (Viterbi), so that labels change where voices do and not from piece to piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from workers.diarize.embedded import nme_sc
from workers.diarize.embedded.tracks import FRAME_SECONDS, Piece, Track
from workers.diarize.embeddings import Bounds, Labels, Vectors, compact, pooled, unit_length

SAME_SPEAKER = 0.48  # cosine similarity from which two mean embeddings are one speaker's
CONSISTENCY = 0.6  # expected cosine similarity of two pieces of one speaker
APART = 0.3  # what it takes off the similarity that the segmentation network has always told two clusters apart
LEAST_SPEECH = 1.0  # weight that makes a speaker
DOUBT = 0.3  # weight of pieces told apart at which that counts half
SET_APART = 0.4  # how far a cluster must be told apart from another to be a speaker with less than LEAST_SPEECH
SWITCH = 0.2  # cost of a change of speaker within a track, fading as the pause grows
PAUSE = 3.0  # seconds
NEAR = 5.0  # seconds: what the network can compare
MOST = 500  # pieces that are clustered; of a longer recording an even selection, and all are decoded
MOST_SPEAKERS = 32  # that NME-SC may count
SPARE = 2  # clusters beyond that count that merging starts with


class Speakers:
    """The clustering of one recording's pieces, which come track by track in order of time."""

    def __init__(self, embeddings: Vectors, pieces: Sequence[Piece], tracks: Sequence[Track]) -> None:
        self.embeddings = embeddings
        self.weights = np.array([piece.weight for piece in pieces], dtype=np.float32)
        self.track = np.array([piece.track for piece in pieces])
        self.middle = np.array([piece.middle for piece in pieces]) * FRAME_SECONDS
        starts, ends = (np.array([piece.run[side] for piece in pieces]) for side in (0, 1))
        pauses = np.maximum(0, starts[1:] - ends[:-1]) * FRAME_SECONDS
        self.switch = np.append(0, SWITCH * np.exp(-pauses / PAUSE))
        self.windows = np.array([(tracks[i].windows.start, tracks[i].windows.stop) for i in self.track])
        # Centred, embeddings show how the speakers of this recording differ rather than what it sounds like.
        mean = np.average(embeddings, axis=0, weights=self.weights)
        self.centred = unit_length(embeddings - mean)

    def told_apart(self) -> tuple[Vectors, Vectors]:
        """For each two near pieces, their weight where the network told two speakers apart, and their weight where it
        did not: (n, n) each."""
        begin, end = self.windows.T
        together = (begin[:, None] < end) & (begin < end[:, None])
        near = np.abs(self.middle[:, None] - self.middle) < NEAR
        same = self.track[:, None] == self.track
        weights = np.where(near, np.outer(self.weights, self.weights), 0).astype(np.float32)
        return weights * (together & ~same), weights * same

    def decode(self, centroids: Vectors) -> Labels:
        """The best sequence of speakers in each track."""
        scores = self.centred @ centroids.T * self.weights[:, None]
        labels = np.zeros(len(scores), dtype=np.int64)
        speakers = np.arange(len(centroids))
        borders = np.flatnonzero(np.diff(self.track, prepend=-1, append=-1)).tolist()
        for first, last in pairwise(borders):
            total = scores[first]
            came_from = []
            for piece in range(first + 1, last):
                best = int(total.argmax())
                changed = total[best] - self.switch[piece]
                came_from.append(np.where(total >= changed, speakers, best))
                total = np.maximum(total, changed) + scores[piece]
            label = int(total.argmax())
            labels[last - 1] = label
            for piece in range(last - 2, first - 1, -1):
                label = int(came_from[piece - first][label])
                labels[piece] = label
        return labels

    def settle(self, labels: Labels, least: int, rounds: int = 2) -> Labels:
        for _ in range(rounds):
            decoded = self.decode(pooled(self.centred, self.weights, labels))
            if len(np.unique(decoded)) < min(least, labels.max() + 1):
                break  # a speaker that was asked for would be lost
            labels = compact(decoded)
        return labels

    def cluster(self, bounds: Bounds, least: Vectors) -> Labels:
        """least: of each piece the weight that makes a speaker of its cluster; of a cluster the least of its pieces
        counts. Where that is more than LEAST_SPEECH, it counts although the cluster is told apart, too."""
        labels = self.settle(self.divide(bounds.least), bounds.least)
        different, same = self.told_apart()
        while (count := int(labels.max()) + 1) > bounds.least:
            members = np.eye(count, dtype=np.float32)[labels]
            speech = self.weights @ members
            # The mean of little speech strays further from its speaker: allow for it.
            straying = np.sqrt(1 + (1 - CONSISTENCY) / (CONSISTENCY * speech))
            one, two = (members.T @ pairs @ members for pairs in (same, different))
            apart = two / (one + two + DOUBT)
            means = pooled(self.embeddings, self.weights, labels)
            alike = means @ means.T * np.outer(straying, straying) - APART * apart
            np.fill_diagonal(alike, -np.inf)
            needed = np.where(members > 0, least[:, None], np.inf).min(axis=0)
            exempt = (apart.max(axis=1) > SET_APART) & (needed <= LEAST_SPEECH)
            missing = np.where(exempt, 0, needed - speech)
            if missing.max() > 0:
                merging = int(missing.argmax())
            elif alike.max() >= SAME_SPEAKER or count > (bounds.most or count):
                merging = int(alike.max(axis=1).argmax())
            else:
                break
            merged = np.where(labels == merging, alike[merging].argmax(), labels)
            labels = self.settle(compact(merged), bounds.least)
        return labels

    def divide(self, least: int) -> Labels:
        """More clusters than there are speakers, if anything."""
        labels = np.zeros(len(self.embeddings), dtype=np.int64)
        affinity = self.embeddings @ self.embeddings.T
        least_alike, most_alike = affinity.min(), affinity.max()
        if len(labels) == 2:
            labels[1] = 1
        elif len(labels) > 2 and least_alike < 0.999:
            affinity = (affinity - least_alike) / (most_alike - least_alike)
            counted, neighbours = nme_sc.estimate(affinity, min(MOST_SPEAKERS, len(labels)))
            count = min(max(counted + SPARE, least), len(labels))
            labels = compact(nme_sc.cluster(nme_sc.graph(affinity, neighbours), count))
        while (count := int(labels.max()) + 1) < min(least, len(labels)):
            fit = (self.embeddings * pooled(self.embeddings, self.weights, labels)[labels]).sum(axis=1)
            shared = np.bincount(labels)[labels] > 1
            labels[np.where(shared, fit, np.inf).argmin()] = count
        return labels


def assign(
    embeddings: Vectors,
    pieces: Sequence[Piece],
    tracks: Sequence[Track],
    bounds: Bounds,
    least: Vectors | None = None,
) -> tuple[Labels, Vectors]:
    """The speaker of each piece, from 0, and the pieces' embeddings, centred. least: as Speakers.cluster has it;
    LEAST_SPEECH without it."""
    if least is None:
        least = np.full(len(pieces), LEAST_SPEECH, dtype=np.float32)
    everything = Speakers(embeddings, pieces, tracks)
    chosen = np.unique(np.linspace(0, len(pieces) - 1, min(MOST, len(pieces))).round().astype(np.int64))
    if len(chosen) == len(pieces):
        return everything.cluster(bounds, least), everything.centred
    some = Speakers(embeddings[chosen], [pieces[i] for i in chosen], tracks)
    labels = some.cluster(bounds, least[chosen])
    return everything.decode(pooled(some.centred, some.weights, labels)), everything.centred
