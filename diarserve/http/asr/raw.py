"""Samples without a file around them, which clients send with encode=false: they get the header of a WAV file."""

from __future__ import annotations

import struct

from diarserve.http.recordings import Chunks
from workers.messages import SAMPLE_RATE

_UNKNOWN = 2**32 - 1  # bytes, as recorders write it that do not know the length yet: all that follows
_HEADER = struct.pack(
    "<4sI4s4sIHHIIHH4sI", b"RIFF", _UNKNOWN, b"WAVE", b"fmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16,
    b"data", _UNKNOWN,
)  # fmt: skip


class RawSamples:
    """16-bit, little-endian, 16 kHz, mono. A WAV file is read as it is: some clients send one even so."""

    def __init__(self, part: Chunks) -> None:
        self._part = part
        self._begun = False

    async def read_chunk(self, size: int, /) -> bytes:
        if self._begun:
            return await self._part.read_chunk(size)
        self._begun = True
        head = await self._part.read_chunk(size - len(_HEADER))
        return _HEADER + head if head and not head.startswith(b"RIFF") else head
