"""Names of speakers that stay the same while the speech so far is clustered again and again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from workers.diarize.embeddings import Labels

Name = int  # of a speaker, from 0 in order of appearance


def match(
    labels: Labels, weights: Sequence[float], before: Sequence[Name | None], taken: Collection[Name], most: int | None
) -> list[Name]:
    """The name of each cluster: each takes that which most of its speech had before, and no two the same one. A cluster
    that is left without gets the first name that is free.

    labels, weights, before: of each piece its cluster, how much speech it is, and its name so far, if it has one.
    taken: names that must not come to mean somebody else, though no piece may have them now. most: speakers there may
    be; then names are given again before there are more.

    >>> match(np.array([0, 0, 1, 2]), [1, 1, 1, 1], [1, 1, 1, 0], (), None)
    [1, 2, 0]
    """
    count = int(labels.max()) + 1
    known = 1 + max((name for name in (*before, *taken) if name is not None), default=-1)
    votes = np.zeros((count, known))
    for cluster, weight, name in zip(labels.tolist(), weights, before, strict=True):
        if name is not None:
            votes[cluster, name] += weight
    pairs = dict(zip(*(side.tolist() for side in linear_sum_assignment(votes, maximize=True)), strict=True))
    named = {cluster: name for cluster, name in pairs.items() if votes[cluster, name] > 0}
    used = {*named.values(), *taken}
    free = [name for name in range(known + count) if name not in used]
    if most is not None:
        spare = [name for name in range(known) if name not in named.values() and name not in free]
        free = [name for name in free if name < most] + spare + [name for name in free if name >= most]
    remaining = iter(free)
    for cluster in np.unique(labels, return_index=True)[1].argsort().tolist():
        if cluster not in named:
            named[cluster] = next(remaining)
    return [named[cluster] for cluster in range(count)]
