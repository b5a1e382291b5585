"""The header of a WAV file: which sound it promises, and where its samples begin.

RIFF/WAVE as in Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" and EBU Tech 3306 (RF64).
Not stdlib's `wave`: on a damaged header it raises RuntimeError and others that it does not document.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

PCM = 1  # WAVE_FORMAT_PCM

_MOST_CHUNKS = 65_536  # before the samples
_FORMAT = struct.Struct("<HHIIHH")
_UNKNOWN = 2**32 - 1  # RF64: the size is in the chunk `ds64`
# Sizes that a recorder writes before it knows the length: 0, and these or nearly so.
_PLACEHOLDERS, _NEAR = (2**31, 2**32), 65_536


@dataclass(frozen=True, slots=True)
class WavHeader:
    tag: int  # of the sample format: 1 is PCM
    channels: int
    rate: int  # Hz
    byte_rate: int  # bytes per second
    frame: int  # bytes of one sample in all channels
    bits: int  # per sample
    begin: int  # the byte of the file at which its samples begin
    size: int  # bytes of samples that it claims

    @property
    def size_known(self) -> bool:
        """Whether the header was completed when the length was known, as recorders to a pipe cannot do."""
        return self.size != 0 and not any(abs(self.size - placeholder) < _NEAR for placeholder in _PLACEHOLDERS)


def read_header(file: BinaryIO) -> WavHeader | None:
    """What stands before the samples of a RIFF, RF64 or BW64 file; None where there is no such header. Any bytes may be
    given: no value is checked for sense."""
    file.seek(12)
    form, long_size = b"", 0
    for _ in range(_MOST_CHUNKS):
        chunk = file.read(8)
        if len(chunk) < 8:
            return None
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"data":
            if len(form) < _FORMAT.size:
                return None
            size = long_size if size == _UNKNOWN and long_size else size
            tag, channels, rate, byte_rate, frame, bits = _FORMAT.unpack_from(form)
            return WavHeader(tag, channels, rate, byte_rate, frame, bits, begin=file.tell(), size=size)
        body = file.read(min(size, 64))
        if name == b"fmt ":
            form = body
        elif name == b"ds64":
            long_size = int.from_bytes(body[8:16], "little")
        file.seek(size - len(body) + size % 2, 1)
    return None
