"""WAV files that hold already what is wanted, 16-bit mono at 16 kHz: they need no decoder, which costs five times as
much as reading them, and short ones no copy of their samples either."""

from __future__ import annotations

import os
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader

import numpy as np

from workers.media.samples import PCM_SCALE, Samples
from workers.messages import SAMPLE_RATE

_BLOCK = 30 * SAMPLE_RATE  # written at once: three writes of a third take up to a third longer


class _Scratch(threading.local):
    """Memory for a block, kept: the C library would give it back after every file, and half of the time it takes to
    convert 30 s is then spent on the pages of the next."""

    def __init__(self) -> None:
        self.read = np.empty(_BLOCK, "<i2")
        self.block = np.empty(_BLOCK, np.float32)


_scratch = _Scratch()


class Plain:
    """As decoder.Reader: its blocks are those of the file, of shape (samples,), each good until the next."""

    good, damaged = 1, 0  # packets

    def __init__(self, file: BufferedReader, samples: int) -> None:
        self._file = file  # where its samples begin
        self.begin = file.tell()
        self.samples = min(samples, (os.fstat(file.fileno()).st_size - self.begin) // 2)  # that are there

    def blocks(self) -> Iterator[Samples]:
        left = self.samples
        while left:
            read, block = _scratch.read[:left], _scratch.block  # of this thread, which may be another at every step
            whole = self._file.readinto(read.data) // 2
            if not whole:  # the file was longer a moment ago
                return
            left -= whole
            yield np.multiply(read[:whole], PCM_SCALE, out=block[:whole])


@contextmanager
def plain(source: str) -> Iterator[Plain | None]:
    """None for every other kind of file."""
    with open(source, "rb") as file:
        try:
            head = wave.open(file)  # noqa: SIM115 (it holds nothing of its own)
        except (wave.Error, EOFError):
            yield None
            return
        form = (head.getnchannels(), head.getsampwidth(), head.getframerate())
        # A header without a length was written before the sound: what follows is the demuxer's to judge.
        yield Plain(file, head.getnframes()) if form == (1, 2, SAMPLE_RATE) and head.getnframes() else None
