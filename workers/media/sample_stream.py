"""Samples as a client sends them, piece by piece, to what a live session takes: 16-bit, mono, 16 kHz.

numpy and soxr are imported with this module, which the server imports for its first live session only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from workers.messages import SAMPLE_RATE

Encoding = Literal["pcm_s16le", "float32", "mulaw", "alaw"]


def _mulaw() -> NDArray[np.int16]:
    """ITU-T G.711, table 2a: the sample that each byte means."""
    code = ~np.arange(256, dtype=np.uint8)
    size = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << (code >> 4 & 7).astype(np.int32)) - 0x84
    return np.where(code & 0x80, -size, size).astype(np.int16)


def _alaw() -> NDArray[np.int16]:
    """ITU-T G.711, table 1a."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    segment = (code >> 4 & 7).astype(np.int32)
    size = ((code & 0x0F).astype(np.int32) << 4) + 8
    size = np.where(segment > 0, size + 0x100 << np.maximum(segment - 1, 0), size)
    return np.where(code & 0x80, size, -size).astype(np.int16)


MULAW, ALAW = _mulaw(), _alaw()


def _from_float(data: bytes) -> NDArray[np.int16]:
    samples = np.nan_to_num(np.frombuffer(data, "<f4"), nan=0.0, posinf=1.0, neginf=-1.0)
    scaled: NDArray[np.int16] = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
    return scaled


_READ: Mapping[Encoding, tuple[int, Callable[[bytes], NDArray[np.int16]]]] = {
    "pcm_s16le": (2, lambda data: np.frombuffer(data, "<i2")),
    "float32": (4, _from_float),
    "mulaw": (1, lambda data: MULAW[np.frombuffer(data, np.uint8)]),
    "alaw": (1, lambda data: ALAW[np.frombuffer(data, np.uint8)]),
}


class SampleStream:
    """
    >>> SampleStream("mulaw", 16_000, 1).feed(b"\\x00\\xff")
    b'\\x84\\x82\\x00\\x00'

    rate: in Hz. channels: interleaved; their mean is taken.
    """

    def __init__(self, encoding: Encoding, rate: int, channels: int) -> None:
        self._width, self._read = _READ[encoding]
        self._width *= channels
        self._channels, self._rest = channels, b""
        # soxr holds back up to 40 ms at its high quality, but 115 ms where it raises the rate; its low one 61 ms then.
        quality = "HQ" if rate > SAMPLE_RATE else "LQ"
        self._resampler: Any = None
        if rate != SAMPLE_RATE:
            self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="int16", quality=quality)

    def feed(self, data: bytes) -> bytes:
        """Pieces may end anywhere, within a sample too."""
        data = self._rest + data
        whole = len(data) - len(data) % self._width
        data, self._rest = data[:whole], data[whole:]
        return self._converted(data, last=False) if data else b""

    def flush(self) -> bytes:
        """What the resampler has held back. After it begins another stretch of sound."""
        self._rest = b""
        if self._resampler is None:
            return b""
        held = self._converted(b"", last=True)
        self._resampler.clear()
        return held

    def _converted(self, data: bytes, *, last: bool) -> bytes:
        samples = self._read(data)
        if self._channels > 1:
            samples = samples.reshape(-1, self._channels).mean(axis=1).astype(np.int16)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        return samples.astype("<i2", copy=False).tobytes()
