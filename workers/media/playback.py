"""A recording of one's own as samples, in order, for the command line. What strangers upload goes through
workers.media.decoder, in a process that may do nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
import av.error
from av.audio.resampler import AudioResampler

from workers.messages import SAMPLE_RATE


def samples(file: Any) -> Iterator[bytes]:
    """Pieces of 16-bit samples, mono, 16 kHz. file: a path, or a file object, which need not be seekable. Raises
    ValueError for what is no recording."""
    try:
        with av.open(file) as container:
            if not container.streams.audio:
                raise ValueError("there is no sound in it")
            resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            for decoded in container.decode(audio=0):
                for frame in resampler.resample(decoded):
                    yield bytes(frame.planes[0])[: 2 * frame.samples]
            for frame in resampler.resample(None):
                yield bytes(frame.planes[0])[: 2 * frame.samples]
    except av.error.FFmpegError as error:
        raise ValueError(f"it cannot be decoded: {error.strerror}") from error
