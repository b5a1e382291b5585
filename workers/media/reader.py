"""The sound of a recording in any container, packet by packet, by FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from workers.engine import JobError
from workers.media.independence import Independence
from workers.media.mixer import Mixer
from workers.media.samples import Samples

MAX_STREAMS = 32

# No other decoder may run, neither on the sound nor when FFmpeg probes a file's pictures.
CODECS = (
    "aac,ac3,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,alac,amrnb,amrwb,eac3,flac,gsm_ms,libopencore_amrnb,"
    "libopencore_amrwb,libopus,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,pcm_alaw,pcm_f32be,pcm_f32le,"
    "pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,pcm_s8,pcm_u8,"
    "vorbis"
)


@contextmanager
def opened(source: Any, kind: str, options: Mapping[str, str]) -> Iterator[InputContainer]:
    """With one demuxer and one protocol, which knows no paths: playlists and scripts that name other files cannot read
    them. source: "fd:", with the descriptor among the options, or an object with `read`. kind: as containers.sniff has
    it. Raises JobError."""
    try:
        container = av.open(
            source,
            format=kind,
            options={
                "format_whitelist": kind,
                "protocol_whitelist": "fd",
                "codec_whitelist": CODECS,
                "max_streams": str(MAX_STREAMS),
                **options,
            },
        )
    except (av.error.FFmpegError, MemoryError, ValueError):
        raise JobError("undecodable", "the file is damaged: its header cannot be read") from None
    with container:
        assert isinstance(container, InputContainer)
        yield container


class Reader:
    """The first audio stream, packet by packet. A bad packet is counted and skipped."""

    channels = 1  # that the blocks hold; known once there is a block that is not empty

    def __init__(self, container: InputContainer, *, separate: bool, soon: bool = False) -> None:
        """soon: every packet's samples at once, which takes more of Python's time."""
        if len(container.streams) > MAX_STREAMS:
            raise JobError("unsupported_media", f"the file has more than {MAX_STREAMS} streams")
        if not container.streams.audio:
            raise JobError("no_audio", "the file has no sound track")
        self.container = container
        self.stream: AudioStream = container.streams.audio[0]
        codec = self.stream.codec_context
        if codec is None or codec.name not in CODECS.split(","):
            raise JobError("unsupported_media", "the sound track's codec is not served")
        codec.thread_count = 1
        self.good = self.damaged = 0
        self.independence = Independence()
        self._separate, self._soon = separate, soon

    def blocks(self) -> Iterator[Samples]:
        """One block per packet, of shape (samples * channels,), which alternate; it may be empty."""
        mixer: Mixer | None = None
        for frames in self._frames():
            parts = []
            for frame in frames:
                if mixer is None or not mixer.fits(frame):
                    parts += mixer.flush() if mixer else []
                    before, mixer = mixer, Mixer(frame, separate=self._separate, soon=self._soon)
                    if before and before.channels != mixer.channels:
                        raise JobError("unsupported_media", "the number of channels changes within the recording")
                    self.channels = mixer.channels
                if not (self._separate or self._soon):
                    self.independence.hear(frame)
                parts += mixer.push(frame)
            yield _bounded(np.concatenate(parts)) if parts else np.zeros(0, np.float32)
        if mixer:
            yield from map(_bounded, mixer.flush())

    def _frames(self) -> Iterator[list[AudioFrame]]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = [frame for frame in packet.decode() if isinstance(frame, AudioFrame)]
            except MemoryError:
                raise JobError("undecodable", "decoding the file takes more memory than is allowed") from None
            except (av.error.FFmpegError, ValueError):
                self.damaged += 1
                yield []
            else:
                self.good += bool(frames)
                yield frames


def _bounded(block: Samples) -> Samples:
    """Float files may hold anything, NaN too: a NaN compares as false."""
    if block.size and not (block.min() >= -1.0 and block.max() <= 1.0):
        np.nan_to_num(block, copy=False)
        np.clip(block, -1.0, 1.0, out=block)
    return block
