"""What a live session remembers of its speakers: of each some pieces that are older than its windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec
import numpy as np

from workers.diarize.embedded.frames import FRAME_STEP, MEL_HOP
from workers.diarize.embedded.tracks import Piece, Track
from workers.diarize.embeddings import Vectors

MOST = 12  # pieces of each speaker; the weightiest
_SPACING = 600  # frames from one to the next, 10 s: they are not near each other


class Remembered(msgspec.Struct, array_like=True):
    data: bytes  # the embedding, (dimension,) float16
    weight: float
    name: int  # the speaker's, from 0

    @property
    def voice(self) -> Vectors:
        return np.frombuffer(self.data, "<f2").astype(np.float32)


class Memory:
    """In order of the speakers' names."""

    def __init__(self, pieces: Sequence[Remembered] = ()) -> None:
        self.pieces = list(pieces)

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[Remembered]:
        return iter(self.pieces)

    def add(self, voice: Vectors, weight: float, name: int) -> None:
        self.pieces.append(Remembered(voice.astype("<f2").tobytes(), weight, name))
        own = [piece for piece in self.pieces if piece.name == name]
        if len(own) > MOST:
            self.pieces.remove(min(own, key=lambda piece: piece.weight))
        self.pieces.sort(key=lambda piece: piece.name)

    def tracks(self, first: int) -> tuple[list[Piece], list[Track]]:
        """As the clustering takes them: a track for each speaker, of which nothing is told but that it is one, and
        which is near to no other. first: the number of the first track."""
        pieces: list[Piece] = []
        tracks: list[Track] = []
        for _, own in groupby(self.pieces, key=lambda piece: piece.name):
            before = -2 * len(tracks) - 2
            tracks.append(
                Track(range(before, before + 1), 0, np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.float32))
            )
            for piece in own:
                at = -(len(pieces) + 1) * _SPACING
                middle = np.array([at * FRAME_STEP // MEL_HOP])
                pieces.append(Piece(first + len(tracks) - 1, (at, at + 90), middle, piece.weight))
        return pieces, tracks
