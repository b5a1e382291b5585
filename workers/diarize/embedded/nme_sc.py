"""Spectral clustering that counts its clusters: NME-SC (Park et al. 2019, https://arxiv.org/abs/2003.02405), in numpy.

What NVIDIA NeMo has in torch (nemo.collections.asr.parts.utils.offline_clustering, Apache-2.0), number for number: the
same neighbours, the same seeds and random numbers, the same choice among several tries. A test holds that both give
the same clusters. Here it needs no torch, which is 6 GB to install.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workers.diarize.embeddings import Labels

Matrix = npt.NDArray[np.float32]

EPSILON = 1e-10
SHARE = 0.15  # of all items that an item may have as neighbours
LARGEST = 512  # items whose neighbours are counted; of more, an even selection
TRIES = 5  # of k-means
CANDIDATES, ITERATIONS, STANDSTILL = 30, 15, 1e-4  # of k-means++ and k-means


def estimate(affinity: Matrix, most: int, searched: int = 20) -> tuple[int, int]:
    """How many clusters there are, up to `most`, and how many neighbours an item should have: the number, of about
    `searched` that are tried, for which the clusters are set apart most clearly.

    affinity: (n, n), from 0 to 1, n at least 3.
    """
    every = max(1, len(affinity) // LARGEST)
    affinity = affinity[::every, ::every]
    largest = max(int(len(affinity) * SHARE), 2)
    numbers = np.linspace(1, largest, min(largest, max(min(largest, searched), 2)), dtype=np.float32).astype(int)
    found = [_eigengap(graph(affinity, number), most) for number in numbers]
    ratios = [number / len(affinity) / (gap + EPSILON) for number, (_, gap) in zip(numbers, found, strict=True)]
    best = int(np.argmin(np.asarray(ratios, dtype=np.float32)))
    if not _connected(graph(affinity, int(numbers[best]))):
        best = _first_connected(affinity, numbers)
    return found[best][0], every * int(numbers[best])


def graph(affinity: Matrix, neighbours: int) -> Matrix:
    """Which items are among each other's nearest: 0 where neither is, 0.5 where one is, 1 where both are. (n, n)"""
    near = np.zeros_like(affinity)
    np.put_along_axis(near, np.argsort(-affinity, axis=1, kind="stable")[:, :neighbours], 1, axis=1)
    symmetric: Matrix = 0.5 * (near + near.T)
    return symmetric


def cluster(adjacency: Matrix, count: int) -> Labels:
    """`count` clusters of a graph's items: k-means on the eigenvectors of its Laplacian. (n,)"""
    _, vectors = np.linalg.eigh(_laplacian(adjacency))
    spectral = np.ascontiguousarray(vectors[:, :count][:, ::-1])
    tries = np.stack([_k_means(spectral, count, _Random(seed)) for seed in range(TRIES)])
    # Each item names the last try with its most frequent label, and the try that most items name is taken.
    modes = np.array([np.bincount(column).argmax() for column in tries.T])
    named = TRIES - 1 - (tries == modes)[::-1].argmax(axis=0)
    chosen: Labels = tries[np.bincount(named).argmax()]
    return chosen


def _laplacian(adjacency: Matrix) -> Matrix:
    weights = adjacency.copy()
    np.fill_diagonal(weights, 0)
    laplacian: Matrix = np.diag(weights.sum(axis=1)) - weights
    return laplacian


def _eigengap(adjacency: Matrix, most: int) -> tuple[int, float]:
    """After how many eigenvalues the largest gap is, and how large it is beside the largest eigenvalue."""
    values = np.linalg.eigvalsh(_laplacian(adjacency))
    gaps = np.diff(values)[:most]
    widest = int(gaps.argmax())
    return widest + 1, float(gaps[widest] / (values[-1] + EPSILON))


def _connected(adjacency: Matrix) -> bool:
    reached, border = np.zeros(len(adjacency), dtype=bool), np.arange(len(adjacency)) == 0
    while border.any():
        reached |= border
        border = adjacency[border].any(axis=0) & ~reached
    return bool(reached.all())


def _first_connected(affinity: Matrix, numbers: npt.NDArray[np.int64]) -> int:
    """Of the numbers of neighbours, the place of the one after the first with which all items hang together."""
    before = 1
    for index, number in enumerate(numbers):
        if _connected(graph(affinity, before)):
            return index
        before = int(number)
    return len(numbers) - 1


class _Random:
    """torch's generator: the Mersenne Twister, whose 32 bits become integers and fractions in torch's way."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.RandomState(seed)

    def bits(self, count: int) -> npt.NDArray[np.uint32]:
        return self._generator.randint(0, 1 << 32, count, dtype=np.uint32)

    def below(self, end: int) -> int:
        return int(self.bits(1)[0]) % end

    def fractions(self, count: int) -> Matrix:
        return (self.bits(count) & 0xFFFFFF).astype(np.float32) / np.float32(1 << 24)


def _k_means(items: Matrix, count: int, random: _Random) -> Labels:
    centers = _centers(items, count, random)
    labels = np.zeros(len(items), dtype=np.int64)
    for _ in range(ITERATIONS):
        labels = _distances(items, centers).argmin(axis=1)
        before = centers.copy()
        for index in range(count):
            own = items[labels == index]
            centers[index] = own.mean(axis=0) if len(own) else items[random.below(len(items))]
        if np.linalg.norm(centers - before, axis=1).sum() ** 2 < STANDSTILL:
            break
    return labels


def _centers(items: Matrix, count: int, random: _Random) -> Matrix:
    """k-means++: each next centre is the best of some that are likelier the further they are from those before."""
    centers = np.empty((count, items.shape[1]), dtype=np.float32)
    centers[0] = items[random.below(len(items))]
    nearest = _distances(items, centers[:1])[:, 0]
    for index in range(1, count):
        thresholds = random.fractions(CANDIDATES) * np.float32(nearest.sum())
        candidates = np.searchsorted(np.cumsum(nearest), thresholds).clip(max=len(items) - 1)
        closer = np.minimum(nearest, _distances(items[candidates], items))
        best = int(closer.sum(axis=1).argmin())
        nearest, centers[index] = closer[best], items[candidates[best]]
    return centers


def _distances(some: Matrix, others: Matrix) -> Matrix:
    """Squared, (some, others)."""
    squared: Matrix = np.square(some[:, None] - others[None]).sum(axis=-1)
    return squared
