"""Uploads to raw samples. Any upload may be hostile: this runs in a process of its own, within limits."""

from __future__ import annotations

import os
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from io import BufferedReader, FileIO
from typing import Any, ClassVar

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from workers.engine import Engine, JobError, JobSteps, WorkItem
from workers.media import containers
from workers.media.cpu_limit import CpuLimit
from workers.media.independence import Independence
from workers.media.mixer import Mixer
from workers.media.private_files import open_private
from workers.media.samples import Samples, undoing_when_full, write_all
from workers.media.wav import PlainReader, RightSizes, plain_reader, with_right_sizes
from workers.messages import SAMPLE_RATE, AudioRef, Decode, Request

STEP_SECONDS = 60.0  # audio per step
IN_PLACE_SECONDS = 120.0  # audio of 16 bits that each worker may convert for itself, and hold
STEP_PACKETS = 20_000  # packets per step: a file may hold many that give no audio
MAX_STREAMS = 32

# No other decoder may run, neither on the sound nor when FFmpeg probes a file's pictures.
CODECS = (
    "aac,ac3,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,alac,amrnb,amrwb,eac3,flac,gsm_ms,libopencore_amrnb,"
    "libopencore_amrwb,libopus,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,pcm_alaw,pcm_f32be,pcm_f32le,"
    "pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,pcm_s8,pcm_u8,"
    "vorbis"
)

Steps = Generator[None, None, AudioRef]

_cpu_limit = CpuLimit()  # of the process, however many decoders it has


class Decoder(Engine):
    """Writes the first audio stream of a file as 16 kHz float32, mono or with its channels apart, or finds that it need
    not."""

    spans: ClassVar = {"decode": (0.0, 0.0)}  # the length is known at the end only
    jailed = True

    def __init__(self, step_cpu_seconds: int = 30) -> None:
        self.step_cpu_seconds = step_cpu_seconds
        silence = AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        silence.sample_rate = 44_100
        mixer = Mixer(silence)
        mixer.push(silence)
        mixer.flush()

    def describe(self) -> Mapping[str, Any]:
        return {"model": f"PyAV {av.__version__}", "device": "cpu", "jail": dict(self.jail)}

    def job(self, request: Request) -> JobSteps:
        if not isinstance(request, Decode):
            raise TypeError(f"{type(request).__name__} is not for a decoder")
        return _job(request)

    def batch(self, key: Hashable) -> int:
        return 1

    def run(self, items: Sequence[WorkItem]) -> Sequence[AudioRef | JobError | None]:
        """Per item: the audio, None if there is more to decode, or why the file cannot be decoded."""
        with _cpu_limit.step(self.step_cpu_seconds) if self.owns_process else nullcontext():
            return [_advance(item.payload) for item in items]


def _job(request: Decode) -> JobSteps:
    # Nothing closes `steps`: a cancelled job may be dropped while a thread is in it. Its files close with its
    # last reference, at the end of that step.
    source, target = request.descriptors or (request.source, open_private(request.target))
    steps = decode(request, BufferedReader(FileIO(source)), FileIO(target, "wb"))
    while True:
        [outcome] = yield [WorkItem("decode", steps)]
        if isinstance(outcome, JobError):
            raise outcome
        if outcome:
            return outcome


def _advance(steps: Steps) -> AudioRef | JobError | None:
    try:
        next(steps)
    except StopIteration as stop:
        audio: AudioRef = stop.value
        return audio
    except JobError as error:
        return error
    return None


def decode(request: Decode, source: BufferedReader, target: FileIO) -> Steps:
    """Write the target, a step at a time. Returns where the samples are: there, or in the source if that is a short WAV
    file of 16-bit mono at 16 kHz. The request's paths are but names here. Raises JobError."""
    with source, target:
        head = source.read(containers.HEAD)
        if not head:
            raise JobError("empty_audio", "the file is empty")
        kind = containers.sniff(head)
        if kind is None:
            raise JobError("unsupported_media", "this is not an audio or video file of a kind that is served")
        promised = containers.promised_seconds(source, kind)
        limit = int(request.max_seconds * SAMPLE_RATE)
        with _reading(source, kind, separate=request.separate) as reader:
            if isinstance(reader, PlainReader) and reader.samples <= IN_PLACE_SECONDS * SAMPLE_RATE:
                audio = AudioRef(request.source, reader.samples, reader.begin)
            else:
                samples = yield from _write(reader, target, limit)
                audio = AudioRef(
                    request.target, samples, channels=reader.channels, independent=reader.independence.found
                )

    if audio.samples > limit:
        raise JobError("too_long", f"the audio is longer than the {request.max_seconds:g} s that are allowed")
    if reader.damaged > reader.good:
        raise JobError("undecodable", "the file is damaged: too little of its audio can be decoded")
    if promised is not None and promised - audio.duration > 0.1 + min(1.0, 0.02 * promised):
        raise JobError(
            "truncated",
            f"the header promises {promised:.1f} s, the file holds {audio.duration:.1f} s: was the upload cut off?",
        )
    if audio.samples == 0:
        raise JobError("empty_audio", "the file holds no audio samples")
    return audio


def _write(reader: PlainReader | Reader, target: FileIO, limit: int) -> Generator[None, None, int]:
    """The number of samples written of each channel: all, or those up to the first block beyond the limit."""
    samples = reported = 0
    with undoing_when_full(partial(target.truncate, 0)):
        for packets, block in enumerate(reader.blocks()):
            samples += block.size // reader.channels
            write_all(target, block)
            if samples > limit:
                break
            if samples - reported >= STEP_SECONDS * SAMPLE_RATE or packets % STEP_PACKETS == STEP_PACKETS - 1:
                reported = samples
                yield
    return samples


@contextmanager
def _reading(source: BufferedReader, kind: str, *, separate: bool) -> Iterator[PlainReader | Reader]:
    if kind == "wav" and (plain := plain_reader(source)):
        yield plain
        return
    mended = with_right_sizes(source) if kind == "wav" else None
    with _opened(source, kind, mended) as opened:
        yield Reader(opened, separate=separate)


@contextmanager
def _opened(source: BufferedReader, kind: str, mended: RightSizes | None) -> Iterator[InputContainer]:
    """With one demuxer and one protocol, which knows no paths: playlists and scripts that name other files cannot read
    them."""
    if not mended:
        os.lseek(source.fileno(), 0, os.SEEK_SET)  # FFmpeg goes on where the descriptor is
    try:
        container = av.open(
            mended or "fd:",
            format=kind,
            options={
                "format_whitelist": kind,
                "protocol_whitelist": "fd",
                **({} if mended else {"fd": str(source.fileno())}),
                "codec_whitelist": CODECS,
                "max_streams": str(MAX_STREAMS),
                # WAV only: FFmpeg would look for other codecs in the first 5 MB of every PCM file, and then hand it
                # out in packets of 2 KB, each of which costs Python time.
                **({"max_probe_packets": "1", "max_size": "32768"} if kind == "wav" else {}),
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

    def __init__(self, container: InputContainer, *, separate: bool) -> None:
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
        self._separate = separate

    def blocks(self) -> Iterator[Samples]:
        """One block per packet, of shape (samples * channels,), which alternate; it may be empty."""
        mixer: Mixer | None = None
        for frames in self._frames():
            parts = []
            for frame in frames:
                if mixer is None or not mixer.fits(frame):
                    parts += mixer.flush() if mixer else []
                    before, mixer = mixer, Mixer(frame, separate=self._separate)
                    if before and before.channels != mixer.channels:
                        raise JobError("unsupported_media", "the number of channels changes within the recording")
                    self.channels = mixer.channels
                if not self._separate:
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
