"""Whether different people speak in the channels of a recording, as in a telephone call with one party in each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

SAME = 0.5  # correlation of two channels' samples, above which they hold the same sound,
TOGETHER = 0.4  # and of their loudness, above which they are of one room
SILENT = 0.01  # of the power of the loudest channel: nobody speaks in this one
HOPS, LEAST = 10, 20  # times a second that the loudness is looked at, at most, and how many of those are enough
SPARSE = 4  # every so many samples: a stereo WAV file then takes 2.4 times the CPU time to decode, with all of them 3.5
LARGE, EVERY = 4096, 4  # of frames with fewer samples only some are looked at: each costs Python time

Matrix = npt.NDArray[np.float64]


class Independence:
    """Frames in, and the verdict `found` at any time. Frames that hold no numbers say nothing."""

    def __init__(self) -> None:
        self._seen = 0
        self._products: Matrix | None = None  # of the samples of two channels, summed, shape (channels, channels)
        self._loudness: list[Matrix] = []  # root mean squares, each of shape (channels,)

    def hear(self, frame: AudioFrame) -> None:
        self._seen += 1
        channels = frame.layout.nb_channels
        if channels < 2 or (frame.samples < LARGE and self._seen % EVERY) or frame.format.name.startswith("u8"):
            return
        heard = frame.to_ndarray()
        heard = heard if frame.format.is_planar else heard.reshape(-1, channels).T
        samples = heard[:, ::SPARSE].astype(np.float64)
        with np.errstate(all="ignore"):
            products = samples @ samples.T
        if not np.isfinite(products).all() or (self._products is not None and self._products.shape != products.shape):
            return
        self._products = products if self._products is None else self._products + products
        size = samples.shape[1]
        hop = min(size, max(1, frame.sample_rate // SPARSE // HOPS))
        cut = samples[:, : size // hop * hop].reshape(channels, -1, hop)
        self._loudness.extend(np.sqrt(np.square(cut).mean(axis=2)).T)

    @property
    def found(self) -> bool:
        if self._products is None or len(self._loudness) < LEAST:
            return False
        power = np.diagonal(self._products)
        speaking = power > SILENT * power.max()
        if speaking.sum() < 2:
            return False
        products = self._products[np.ix_(speaking, speaking)]
        same = products / np.sqrt(np.outer(power[speaking], power[speaking]))
        together = np.asarray(np.corrcoef(np.array(self._loudness)[:, speaking], rowvar=False))
        return _most(same) < SAME and _most(together) < TOGETHER


def _most(correlations: Matrix) -> float:
    """Of two different channels."""
    return float(correlations[~np.eye(len(correlations), dtype=np.bool_)].max())
