"""A recording's samples in a file: read through the page cache, which all workers share, and gone with its folder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workers.messages import AudioRef

Samples = npt.NDArray[np.float32]
PCM_SCALE = np.float32(1 / 32768)


def load(ref: AudioRef) -> Samples:
    """The samples, not to be changed: shape (samples,), float32 in [-1, 1], 16 kHz. Mapped, or converted if they are
    16-bit."""
    if ref.samples == 0:
        return np.zeros(0, dtype=np.float32)  # an empty file cannot be mapped
    if ref.pcm is not None:
        return np.fromfile(ref.path, "<i2", ref.samples, offset=ref.pcm) * PCM_SCALE
    return np.memmap(ref.path, dtype=np.float32, mode="r", shape=(ref.samples,))
