"""Who speaks each segment: NeMo's NME-SC (Park et al. 2020) on the similarities of all scales.

A matrix of similarities grows with the square of a recording's length, and its eigenvectors' cost with the cube. So a
long recording is reduced first, as in NeMo's LongFormSpeakerClustering: chunk by chunk, to more clusters than there
can be speakers, whose means are clustered in place of their segments. NeMo fuses the scales with matrices over the
whole recording, in one call; here no step is larger than one chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workers.diarize.cascade.titanet import Segments
from workers.diarize.embeddings import Bounds, Labels, Vectors, compact, unit_length

WHOLE = 3072  # items that are clustered at once: their eigenvectors take some seconds
CHUNK = 1024  # of a longer recording
TARGET = 1536  # what a longer recording is reduced to, about: of few items NME-SC counts too few speakers
CHUNK_CLUSTERS = (50, 100)  # what a chunk is reduced to: at least as in NeMo, and no more than k-means does in a second
ROUGH = 256  # how much of a chunk NME-SC looks at, where it need not count
FEW = 80  # segments up to which speakers are counted beside invented ones: NeMo's enhanced_count_thres
MOST_SPEAKERS = 20  # up to which NeMo's count is stable
LIMITS = {"max_rp_threshold": 0.25, "sparse_search_volume": 30}  # as in NeMo's diar_infer_*.yaml


def nearest(segments: Segments, base: Segments) -> npt.NDArray[np.int64]:
    """For each base segment the segment whose middle is nearest."""
    middles = segments.sum(axis=1)
    return np.asarray(np.searchsorted((middles[1:] + middles[:-1]) / 2, base.sum(axis=1)), np.int64)


@dataclass(frozen=True, slots=True)
class Voices:
    """What is clustered: n items, each with an embedding on every scale."""

    embeddings: Sequence[Vectors]  # per scale, of unit length
    index: Sequence[npt.NDArray[np.int64]]  # per scale (n,): which of them is the item's
    weights: Sequence[float]  # per scale

    def __len__(self) -> int:
        return len(self.index[-1])

    def part(self, chunk: slice) -> Voices:
        return Voices(self.embeddings, [index[chunk] for index in self.index], self.weights)

    def of(self, scale: int) -> Vectors:
        return self.embeddings[scale][self.index[scale]]

    def affinity(self) -> Tensor:
        """(n, n), from 0 to 1: as NeMo's getMultiScaleCosAffinityMatrix."""
        total = torch.zeros(len(self), len(self))
        for scale, weight in enumerate(self.weights):
            vectors = torch.from_numpy(self.of(scale))
            cosine = vectors @ vectors.T
            low, high = cosine.min(), cosine.max()
            total += weight / sum(self.weights) * (cosine - low) / (high - low).clamp(min=1e-6)
        return total

    def means(self, labels: Labels) -> Voices:
        """The mean voice of each cluster."""
        members = np.eye(labels.max() + 1, dtype=np.float32)[labels]
        means = [unit_length(members.T @ self.of(scale)) for scale in range(len(self.weights))]
        return Voices(means, [np.arange(len(mean)) for mean in means], self.weights)


def joined(parts: Sequence[Voices]) -> Voices:
    """Means of several chunks, one after the other."""
    scales = range(len(parts[0].weights))
    embeddings = [np.concatenate([part.of(scale) for part in parts]) for scale in scales]
    return Voices(embeddings, [np.arange(len(each)) for each in embeddings], parts[0].weights)


def chunks_of(items: int) -> list[slice]:
    """Chunks of about equal length."""
    edges = np.linspace(0, items, -(-items // CHUNK) + 1).round().astype(int).tolist()
    return [slice(first, past) for first, past in pairwise(edges)]


def reduce(nme_sc: Any, voices: Voices, total: int, bounds: Bounds) -> Labels:
    """The cluster of each item of a chunk, of `total` items in all; there are more clusters than speakers."""
    count = int(np.clip(TARGET * len(voices) // total, *CHUNK_CLUSTERS))
    count = min(max(count, 2 * (bounds.most or bounds.least)), len(voices) // 2)
    return spectral(nme_sc, voices.affinity(), count, count, nme_mat_size=ROUGH)


def cluster(nme_sc: Any, voices: Voices, bounds: Bounds) -> Labels:
    """The speaker of each item, from 0; as many as the bounds ask for, where there are as many items."""
    least = min(bounds.least, len(voices))
    most = min(bounds.most or max(MOST_SPEAKERS, least), len(voices))
    if most == 1:
        return np.zeros(len(voices), np.int64)
    affinity = voices.affinity()
    count = least if least == most else None
    if count is None and len(voices) <= FEW:
        counted = nme_sc.getEnhancedSpeakerCount(emb=torch.from_numpy(voices.of(-1)))
        count = int(np.clip(int(counted), least, most))
    labels = spectral(nme_sc, affinity, count, min(max(MOST_SPEAKERS, most), len(voices)))
    found = int(labels.max()) + 1
    if not least <= found <= most:  # counted freely: NeMo's count within a bound is often far below it
        labels = spectral(nme_sc, affinity, int(np.clip(found, least, most)), most)
    return split(labels, affinity.numpy(), least)


def settle(voices: Voices, labels: Labels) -> Labels:
    """Each item given to the speaker whose mean voice is most like it: a reduced chunk's clusters are not all pure."""
    means = voices.means(labels)
    likeness = sum(weight * voices.of(scale) @ means.of(scale).T for scale, weight in enumerate(voices.weights))
    settled = np.asarray(likeness).argmax(axis=1)
    return settled if len(np.unique(settled)) == len(means) else labels


def spectral(nme_sc: Any, affinity: Tensor, count: int | None, most: int, **settings: int) -> Labels:
    """NME-SC's labels, from 0; as many as it counts where `count` is None."""
    clustering = nme_sc.SpeakerClustering(**settings)
    labels = clustering.forward_unit_infer(
        affinity.clone(), oracle_num_speakers=count or -1, max_num_speakers=count or most, **LIMITS
    )
    return compact(labels.numpy())


def split(labels: Labels, affinity: Vectors, least: int) -> Labels:
    """Make speakers until there are enough, of the items that are least like their own."""
    labels = labels.copy()
    while (count := int(labels.max()) + 1) < least:
        own = labels[:, None] == labels
        fit = (affinity * own).sum(axis=1) / own.sum(axis=1)
        labels[np.where(own.sum(axis=1) > 1, fit, np.inf).argmin()] = count
    return labels
