"""How the speakers of a recording sound, by turns that any diarizer may have found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from workers.diarize.embedded.frames import EMBEDDING_FRAMES, MEL_HOP
from workers.diarize.embedded.tracks import ALONE
from workers.diarize.embeddings import Vectors, unit_length
from workers.diarize.turns import Span
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, Turn, Voice

MOST = 40  # pieces of one speaker, 64 s: the mean of more is the same
FULL_SCALE = 0.999  # of a sample that is clipped

MelFrames = npt.NDArray[np.int64]


def solo(turns: Sequence[Turn]) -> Mapping[str, list[Span]]:
    """Where each speaker speaks and nobody else does. Turns are sorted by start.

    >>> solo([Turn(0, 3, "A"), Turn(2, 4, "B")])
    {'A': [(0, 2)], 'B': [(3, 4)]}
    """
    edges = sorted({time for turn in turns for time in (turn.start, turn.end)})
    spans: dict[str, list[Span]] = {turn.speaker: [] for turn in turns}
    open_turns: list[Turn] = []
    rest = iter(turns)
    coming = next(rest, None)
    for start, end in pairwise(edges):
        while coming is not None and coming.start <= start:
            open_turns.append(coming)
            coming = next(rest, None)
        open_turns = [turn for turn in open_turns if turn.end > start]
        if len({turn.speaker for turn in open_turns}) == 1:
            own = spans[open_turns[0].speaker]
            if own and own[-1][1] == start:
                own[-1] = (own[-1][0], end)
            else:
                own.append((start, end))
    return spans


def pieces_of(spans: Sequence[Span], samples: int) -> list[MelFrames]:
    """The mel frames of pieces of at most 1.6 s, from spans of a recording of so many samples. Of much speech an even
    selection."""
    pieces = []
    for start, end in spans:
        first, past = round(start * SAMPLE_RATE) // MEL_HOP, min(round(end * SAMPLE_RATE), samples) // MEL_HOP
        count = -(-(past - first) // EMBEDDING_FRAMES)
        pieces += [part for part in np.array_split(np.arange(first, past), max(count, 1)) if len(part) >= ALONE]
    if len(pieces) <= MOST:
        return pieces
    return [pieces[index] for index in np.linspace(0, len(pieces) - 1, MOST).round().astype(int)]


def mean_voice(speaker: str, embeddings: Sequence[Vectors], pieces: Sequence[MelFrames]) -> Voice:
    """Of one speaker's pieces, longer ones counting for more."""
    frames = np.array([len(piece) for piece in pieces], dtype=np.float32)
    mean = unit_length(frames @ np.stack(embeddings))
    return Voice(speaker, mean.astype("<f4").tobytes(), round(float(frames.sum()) * MEL_HOP / SAMPLE_RATE, 3))


def clipping(samples: Samples) -> float:
    """The share of samples that are clipped."""
    return round(float(np.mean(np.abs(samples) >= FULL_SCALE)), 6) if len(samples) else 0.0
