"""Frames of audio to samples at 16 kHz, by FFmpeg's filters."""

from __future__ import annotations

import av.error
from av.audio.frame import AudioFrame
from av.filter import Graph

from workers.engine import JobError
from workers.media.samples import Samples
from workers.messages import MAX_CHANNELS, SAMPLE_RATE

MAX_FLOW = 768_000  # samples a second in all channels: 8 at 96 kHz, 4 at 192 kHz
MIN_RATE = 4_000


class Mixer:
    """Frames of one shape in; the mean of their channels out, at 16 kHz, or where they are to be kept apart, a sample
    of each in turn. libswresample's own downmix to mono is 3 dB louder than the mean for stereo and drops or weights
    channels by their place in the room."""

    def __init__(self, first: AudioFrame, *, separate: bool = False, soon: bool = False) -> None:
        """soon: samples come out with the frame that they are in, in place of a second's at a time."""
        channels, rate = first.layout.nb_channels, first.sample_rate
        if not 0 < channels <= MAX_CHANNELS or rate < MIN_RATE or channels * rate > MAX_FLOW:
            raise JobError("unsupported_media", f"audio with {channels} channels at {rate} Hz is not served")
        self.shape = _shape(first)
        self.channels = channels if separate else 1
        graph = Graph()
        mean = "+".join(f"{1 / channels:.9f}*c{channel}" for channel in range(channels))
        graph.link_nodes(
            graph.add_abuffer(sample_rate=rate, format=first.format.name, layout=first.layout.name),
            graph.add("aformat", "sample_fmts=fltp"),
            *([] if separate else [graph.add("pan", f"mono|c0={mean}")]),
            graph.add("aresample", str(SAMPLE_RATE)),
            graph.add("aformat", f"sample_fmts=flt:sample_rates={SAMPLE_RATE}"),
            # Few large frames: each costs Python time.
            *([] if soon else [graph.add("asetnsamples", f"n={SAMPLE_RATE}:p=0")]),
            graph.add("abuffersink"),
        ).configure()
        self.graph = graph

    def fits(self, frame: AudioFrame) -> bool:
        return _shape(frame) == self.shape

    def push(self, frame: AudioFrame) -> list[Samples]:
        frame.pts = None  # a gap in the file's clock is not audio
        self.graph.push(frame)
        return self._pull()

    def flush(self) -> list[Samples]:
        self.graph.push(None)
        return self._pull()

    def _pull(self) -> list[Samples]:
        blocks: list[Samples] = []
        while True:
            try:
                frame = self.graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return blocks
            assert isinstance(frame, AudioFrame)
            blocks.append(frame.to_ndarray()[0])


def _shape(frame: AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.layout.name, frame.format.name
