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

from workers.engine import Engine, JobError, JobSteps, LiveSteps, WorkItem
from workers.media import containers
from workers.media.cpu_limit import CpuLimit
from workers.media.mixer import Mixer
from workers.media.private_files import open_private
from workers.media.reader import Reader, opened
from workers.media.samples import undoing_when_full, write_all
from workers.media.unpacking import Advance, Unpacked, unpack
from workers.media.wav import PlainReader, plain_reader, with_right_sizes
from workers.messages import SAMPLE_RATE, AudioRef, Decode, LiveRequest, Request, Unpack

STEP_SECONDS = 60.0  # audio per step
IN_PLACE_SECONDS = 120.0  # audio of 16 bits that each worker may convert for itself, and hold
STEP_PACKETS = 20_000  # packets per step: a file may hold many that give no audio

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
        return {"model": f"PyAV {av.__version__}", "device": "cpu", "live": True, "jail": dict(self.jail)}

    def job(self, request: Request) -> JobSteps:
        if not isinstance(request, Decode):
            raise TypeError(f"{type(request).__name__} is not for a decoder")
        return _job(request)

    def live(self, request: LiveRequest) -> LiveSteps:
        if not isinstance(request, Unpack):
            raise TypeError(f"{type(request).__name__} is not for a decoder")
        return unpack(request, f"PyAV {av.__version__}")

    def batch(self, key: Hashable) -> int:
        return 1

    def run(self, items: Sequence[WorkItem]) -> Sequence[AudioRef | Unpacked | JobError | None]:
        """Per item: the audio, None if there is more to decode, or why the file cannot be decoded."""
        return [self._limited(item.payload) for item in items]

    def _limited(self, work: Steps | Advance) -> Any:
        clock = work.unpacking.clock if isinstance(work, Advance) else None
        with _cpu_limit.step(self.step_cpu_seconds, clock) if self.owns_process else nullcontext():
            return work() if isinstance(work, Advance) else _advance(work)


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
    options = {}
    if not mended:
        os.lseek(source.fileno(), 0, os.SEEK_SET)  # FFmpeg goes on where the descriptor is
        options["fd"] = str(source.fileno())
    if kind == "wav":
        # FFmpeg would look for other codecs in the first 5 MB of every PCM file, and then hand it out in packets of
        # 2 KB, each of which costs Python time.
        options |= {"max_probe_packets": "1", "max_size": "32768"}
    with opened(mended or "fd:", kind, options) as container:
        yield Reader(container, separate=separate)
