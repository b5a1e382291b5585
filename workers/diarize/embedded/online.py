"""Speakers who are found one after the other, and keep their names: a mean embedding each (centroids).

Like diart (Coria et al. 2021, https://arxiv.org/abs/2109.06483), with the offline clustering's measure of likeness: a
piece belongs to the likest speaker, or to a new one where none is alike, and two tracks of one window are two speakers
(a soft cannot-link). Recent pieces are labelled anew with every window and only then join their centroid, when they are
settled: until then a better judgement may still come.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from workers.diarize.embedded.clustering import APART, CONSISTENCY
from workers.diarize.embedded.tracks import Piece
from workers.diarize.embeddings import Bounds, Labels, Vectors, unit_length

# Mean streaming DER, as corrected, on the three open recordings and on two made conversations: 0.22 and 0.35. NEW 0.25
# gives 0.28 and 0.39, 0.48 gives 0.23 and 0.44; ENOUGH 0.5 gives 0.23 and 0.35; STICKY 0.2 gives 0.29 and 0.49.
NEW = 0.35  # likeness below which a piece is a new speaker's
ENOUGH = 0.3  # weight, 0.5 s of undisturbed speech, of a piece that may show a new speaker
STICKY = 0.1  # likeness that the speaker of the piece before in the same track is ahead by


class Centroid(msgspec.Struct):
    total: bytes  # (dimension,) float32: the sum of the embeddings times their weights
    weight: float


class Centroids:
    """Means of those speakers whose pieces are settled; in the order of their names."""

    def __init__(self, known: Sequence[Centroid] = ()) -> None:
        self.totals: list[Vectors] = [np.frombuffer(one.total, "<f4").astype(np.float32) for one in known]
        self.weights: list[float] = [one.weight for one in known]

    def state(self) -> list[Centroid]:
        pairs = zip(self.totals, self.weights, strict=True)
        return [Centroid(total.astype("<f4").tobytes(), weight) for total, weight in pairs]

    def label(self, voices: Vectors, pieces: Sequence[Piece], bounds: Bounds) -> tuple[Labels, Vectors]:
        """The speaker of each piece, and the mean direction of every speaker, those included whom the pieces show
        first. voices (pieces, dimension), of unit length."""
        totals, weights = list(self.totals), list(self.weights)
        labels = np.full(len(pieces), -1, dtype=np.int64)
        before: dict[int, int] = {}  # by track: the speaker of the piece before
        for index in sorted(range(len(pieces)), key=lambda index: pieces[index].middle):
            piece, voice = pieces[index], voices[index]
            likeness = np.zeros(len(totals), dtype=np.float32)
            if totals:
                straying = _straying(np.array(weights)) * _straying(np.array([piece.weight]))
                likeness += unit_length(np.stack(totals)) @ voice * straying
            for other in np.flatnonzero(labels >= 0).tolist():
                if pieces[other].track != piece.track and _overlap(pieces[other], piece):
                    likeness[labels[other]] -= APART
            if piece.track in before:
                likeness[before[piece.track]] += STICKY
            best = int(likeness.argmax()) if totals else -1
            new = not totals or (likeness[best] < NEW and piece.weight >= ENOUGH)
            if new and (not totals or len(totals) < (bounds.most or len(totals) + 1)):
                best = len(totals)
                totals.append(np.zeros_like(voice))
                weights.append(0.0)
            labels[index] = before[piece.track] = best
            totals[best] = totals[best] + piece.weight * voice
            weights[best] += piece.weight
        return labels, unit_length(np.stack(totals))

    def settle(self, voice: Vectors, label: int, weight: float) -> None:
        while label >= len(self.totals):
            self.totals.append(np.zeros_like(voice))
            self.weights.append(0.0)
        self.totals[label] = self.totals[label] + weight * voice
        self.weights[label] += weight


def _straying(weights: Vectors) -> Vectors:
    """The mean of little speech strays from its speaker: what to multiply its likeness with."""
    found: Vectors = np.sqrt(1 + (1 - CONSISTENCY) / (CONSISTENCY * np.maximum(weights, 0.2)))
    return found


def _overlap(one: Piece, other: Piece) -> bool:
    return min(one.run[1], other.run[1]) > max(one.run[0], other.run[0])
