"""Names of speakers that stay the same while the speech so far is clustered again and again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from workers.diarize.embeddings import Labels

Name = int  # of a speaker, from 0 in order of appearance
Votes = Mapping[Name, float]  # the share of a piece's clusterings, newer ones counting more, that gave it each name

FADE = 0.95  # of a vote from one clustering, every 0.54 s, to the next
MARGIN = 0.2  # by which a name must lead to take the place of the one that was told


def match(
    labels: Labels, weights: Sequence[float], votes: Sequence[Votes], taken: Collection[Name], most: int | None
) -> list[Name]:
    """The name of each cluster: each takes that which most of its speech had before, and no two the same one. A cluster
    that is left without gets the first name that is free.

    labels, weights, votes: of each piece its cluster, how much speech it is, and its names so far, if it has any.
    taken: names that must not come to mean somebody else, though no piece may have them now. most: speakers there may
    be; then names are given again before there are more.

    >>> match(np.array([0, 0, 1, 2]), [1, 1, 1, 1], [{1: 1.0}, {1: 1.0}, {1: 1.0}, {0: 1.0}], (), None)
    [1, 2, 0]
    """
    count = int(labels.max()) + 1
    known = 1 + max((name for names in (*votes, taken) for name in names), default=-1)
    speech = np.zeros((count, known))
    for cluster, weight, names in zip(labels.tolist(), weights, votes, strict=True):
        for name, share in names.items():
            speech[cluster, name] += weight * share
    pairs = dict(zip(*(side.tolist() for side in linear_sum_assignment(speech, maximize=True)), strict=True))
    named = {cluster: name for cluster, name in pairs.items() if speech[cluster, name] > 0}
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


def voted(votes: Votes, name: Name) -> Votes:
    """With one more vote.

    >>> voted({0: 1.0}, 1)
    {0: 0.95, 1: 0.05}
    """
    new = {other: round(share * FADE, 4) for other, share in votes.items()}
    new[name] = round(new.get(name, 0.0) + (1 - FADE if votes else 1.0), 4)
    return {other: share for other, share in new.items() if share > 0.01}


def elected(votes: Votes, told: Name | None) -> Name:
    """The name that a piece is told by: the one it was told by before, until another leads clearly.

    >>> elected({0: 0.45, 1: 0.55}, 0), elected({0: 0.39, 1: 0.61}, 0), elected({3: 1.0}, None)
    (0, 1, 3)
    """
    leader = max(votes, key=votes.__getitem__)
    return leader if told is None or votes[leader] > votes.get(told, 0.0) + MARGIN else told
