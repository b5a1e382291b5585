"""WAV files of 16-bit mono at 16 kHz are read without a decoder, which costs five times as much; the samples of short
ones are not even copied. Of others, those with wrong sizes in their headers are given right ones."""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Iterator
from io import BufferedReader

import numpy as np

from workers.media.independence import Independence
from workers.media.riff import PCM, WavHeader, read_header
from workers.media.samples import PCM_SCALE, Samples
from workers.messages import SAMPLE_RATE

_BLOCK = 30 * SAMPLE_RATE  # written at once: three writes of a third take up to a third longer


class _Scratch(threading.local):
    """Memory for a block, kept for the next file: the C library would give it back to the kernel, and half of the time
    that it takes to convert 30 s would go into getting new pages."""

    def __init__(self) -> None:
        self.read = np.empty(_BLOCK, "<i2")
        self.block = np.empty(_BLOCK, np.float32)


_scratch = _Scratch()


class PlainReader:
    """As decoder.Reader. Its blocks, of shape (samples,), are valid until the next one is read."""

    good, damaged = 1, 0  # packets
    channels, independence = 1, Independence()

    def __init__(self, file: BufferedReader, samples: int) -> None:
        self._file = file  # where its samples begin
        self.begin = file.tell()
        self.samples = min(
            samples, (os.fstat(file.fileno()).st_size - self.begin) // 2
        )  # what the header claims, or less

    def blocks(self) -> Iterator[Samples]:
        left = self.samples
        while left:
            read, block = _scratch.read[:left], _scratch.block  # of this thread: each step may run in another
            whole = self._file.readinto(read.data) // 2
            if not whole:  # the file was cut off meanwhile
                return
            left -= whole
            yield np.multiply(read[:whole], PCM_SCALE, out=block[:whole])


def plain_reader(file: BufferedReader) -> PlainReader | None:
    """None for every other kind of file: those are PyAV's."""
    header = read_header(file)
    if header is None or not _is_plain(header):
        return None
    file.seek(header.begin)
    return PlainReader(file, header.size // 2)


def with_right_sizes(file: BufferedReader) -> RightSizes | None:
    """None where the sizes are right."""
    header = read_header(file)
    return None if header is None or header.regular else RightSizes(file, header)


class RightSizes:
    """The samples of a WAV file behind a header whose sizes are left open, to be read from the beginning to the end."""

    def __init__(self, file: BufferedReader, header: WavHeader) -> None:
        chunk = struct.Struct("<4sI").pack
        form = header.form[: len(header.form) // 2 * 2]
        head = (chunk(b"RIFF", 2**32 - 1), b"WAVE", chunk(b"fmt ", len(form)), form, chunk(b"data", 0))
        self._head = io.BytesIO(b"".join(head))
        self._file = file
        self._left = header.size
        file.seek(header.begin)

    def read(self, size: int) -> bytes:
        if head := self._head.read(size):
            return head
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


def _is_plain(header: WavHeader) -> bool:
    form = (header.tag, header.channels, header.rate, header.frame, header.bits)
    return form == (PCM, 1, SAMPLE_RATE, 2, 16) and header.size >= 2
