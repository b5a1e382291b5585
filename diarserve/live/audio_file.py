"""The audio of a live session: a WAV file that grows, which is the upload of its task at the end."""

from __future__ import annotations

import os
import struct

from diarserve.tasks.disk_space import DiskSpace
from workers.media.private_files import open_private
from workers.messages import SAMPLE_RATE

HEADER = 44  # bytes before the first sample
_SAMPLE = 2  # bytes
_MOST = 2**32 - 1 - HEADER  # bytes of samples; 37 hours


class AudioFile:
    """Samples are 16-bit, little-endian, mono, 16 kHz."""

    def __init__(self, path: str, disk: DiskSpace) -> None:
        """Raises OSError and StorageFull."""
        self.path = path
        self.samples = 0
        self._disk = disk
        self._rest = b""  # the first byte of a sample
        self._descriptor = open_private(path)
        self._write(_header(0))

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE

    def append(self, pcm: bytes) -> None:
        """To the page cache, which takes 10 µs for a tenth of a second. Raises StorageFull and OSError; then nothing of
        it counts."""
        data = self._rest + pcm
        whole = len(data) - len(data) % _SAMPLE
        self._write(data[:whole], HEADER + self.samples * _SAMPLE)
        self._rest = data[whole:]
        self.samples += whole // _SAMPLE

    def finish(self) -> None:
        """The header says how long it is. Raises OSError."""
        os.pwrite(self._descriptor, _header(self.samples * _SAMPLE), 0)
        self.close()

    def close(self) -> None:
        """May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, data: bytes, offset: int = 0) -> None:
        with self._disk.reserved(len(data)):
            left = memoryview(data)
            while left:
                written = os.pwrite(self._descriptor, left, offset)
                left, offset = left[written:], offset + written


def _header(size: int) -> bytes:
    size = min(size, _MOST)
    byte_rate = SAMPLE_RATE * _SAMPLE
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size + HEADER - 8, b"WAVE", b"fmt ", 16, 1, 1, SAMPLE_RATE,
                       byte_rate, _SAMPLE, 16, b"data", size)  # fmt: skip
