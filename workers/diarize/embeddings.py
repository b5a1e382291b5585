"""What all that cluster speaker embeddings share: vectors one a row, labels one for each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # (n, dimension) or (n, n)
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many speakers there may be."""

    least: int = 1
    most: int | None = None


def unit_length(vectors: Vectors) -> Vectors:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)


def compact(labels: Labels) -> Labels:
    """Number the labels in use from 0."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def pooled(vectors: Vectors, weights: Vectors, labels: Labels) -> Vectors:
    """The mean direction of each cluster."""
    members = np.eye(labels.max() + 1, dtype=np.float32)[labels]
    return unit_length(members.T @ (vectors * weights[:, None]))
