"""Decoded audio as a raw float32 file: zero-copy through the page cache, and gone with its folder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workers.messages import AudioRef

Samples = npt.NDArray[np.float32]


def load(ref: AudioRef) -> Samples:
    """Map the samples read-only: shape (samples,), float32 in [-1, 1], 16 kHz."""
    if ref.samples == 0:
        return np.zeros(0, dtype=np.float32)  # an empty file cannot be mapped
    return np.memmap(ref.path, dtype=np.float32, mode="r", shape=(ref.samples,))
