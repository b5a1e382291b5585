"""Long recordings for a model that was trained on short ones: windows that begin with a memory of what came before.

A window is a memory of the recording, followed by what is new. The memory is some seconds in which each speaker speaks
alone, and the last seconds. The model says who speaks in all of it, and as it has answered for the remembered frames
before, its answers there tell which of its outputs is which speaker (a speaker-tracing buffer: Xue et al. 2021, "Online
streaming end-to-end neural diarization handling overlapping speech and flexible numbers of speakers"). The streaming
Sortformer is built on the same idea, as a cache of its encoder's frames.

Windows that merely overlap could all run at once. But a speaker who is silent in an overlap is lost there, and would
have to be recognized by a comparison of voices, for which the model was not trained and has no threshold. Here the
model itself recognizes every speaker so far. Windows then have to follow each other, which costs a GPU little: it fills
its batches with the windows of other jobs.

All of it is about frames of 80 ms, and an output's column is a speaker of the whole recording once it is joined.
"""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import numpy.typing as npt

from workers.diarize.binarize import Probabilities

Frames = npt.NDArray[np.int64]

BLOCK = 12  # frames that are remembered together: about a second, long enough to tell a voice by
CLEAR = 0.25  # mean probability, over a block, that one speaker speaks alone, from which on it may be remembered


def recall(past: Probabilities, most: int, recent: int) -> Frames:
    """At most `most` frames of the past for the memory, in order of time: the `recent` last ones, and of those before,
    for each speaker an equal share of the blocks that are most clearly this speaker alone."""
    last = max(0, len(past) - min(recent, most))
    blocks = last // BLOCK
    share = (most - min(recent, most)) // BLOCK // past.shape[1]
    silent = np.maximum(1 - past[: blocks * BLOCK], 0)
    remembered: set[int] = set()
    for speaker, probability in enumerate(past[: blocks * BLOCK].T):
        alone = probability * np.delete(silent, speaker, axis=1).prod(axis=1)
        clarity = alone.reshape(blocks, BLOCK).mean(axis=1)
        best = np.argsort(-clarity, kind="stable")[:share]
        remembered |= set(best[clarity[best] >= CLEAR].tolist())
    starts = BLOCK * np.array(sorted(remembered), dtype=np.int64)
    return np.concatenate([(starts[:, None] + np.arange(BLOCK)).reshape(-1), np.arange(last, len(past))])


def order(before: Probabilities, now: Probabilities) -> list[int]:
    """Which column of `now` is which of `before`, for the same frames: the pairing that agrees best.

    The sum of products decides: the other terms of the expected agreement are the same for all pairings.
    """
    agreement = before.T @ now
    speakers = list(range(len(agreement)))
    return max(map(list, permutations(speakers)), key=lambda columns: float(agreement[speakers, columns].sum()))


def join(past: Probabilities, memory: Frames, window: Probabilities, recent: int) -> Probabilities:
    """The past, longer by what is new in a window that began with `memory`.

    Of the recent frames in the memory, the later half is taken from the window, where the model knew what follows.
    """
    if not len(past):
        return window
    aligned = window[:, order(past[memory], window[: len(memory)])]
    again = min(recent // 2, len(memory))
    return np.concatenate([past[: len(past) - again], aligned[len(memory) - again :]])


def spans(frames: Frames) -> list[tuple[int, int]]:
    """Sorted frames as runs: first and past-the-last of each."""
    cuts = [0, *(np.flatnonzero(np.diff(frames) != 1) + 1).tolist(), len(frames)]
    return [(int(frames[first]), int(frames[past - 1]) + 1) for first, past in pairwise(cuts) if first < past]
