"""A recording that keeps arriving: its bytes in, its samples out as soon as they can be decoded."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from io import FileIO

import numpy as np
from numpy.typing import NDArray

from workers.engine import Await, Emit, JobError, LiveSteps, WorkItem
from workers.media import containers
from workers.media.reader import Reader, opened
from workers.media.samples import PCM_SCALE, Samples
from workers.messages import SAMPLE_RATE, Unpack
from workers.messages.live import UNPACKED, Append, LiveEnd, LiveSamples

_ROOM = UNPACKED * SAMPLE_RATE  # samples of one output
_STEP = 60 * SAMPLE_RATE  # samples of one step, where they were told before
_STEP_PACKETS = 20_000  # there may be many that hold no sound
_DAMAGED = 100  # packets more than good ones, from which on nothing is expected of the rest
# FFmpeg would look at the first 5 MB, or 5 s, before it gives out the first sample.
_SOON = {"probesize": "4096", "analyzeduration": "1", "max_probe_packets": "1"}
_SMALL = {"max_size": "4096"}  # bytes of a packet, for WAV


@dataclass(frozen=True, slots=True)
class Unpacked:
    pcm: bytes
    more: bool  # not all that there is was decoded


class Unpacking:
    """FFmpeg pulls: it asks for bytes in the midst of its work, and cannot be left there. So each recording has a
    thread of its own, which rests wherever it has no bytes to give, or enough was decoded; `advance` lets it go on.

    unpacking = Unpacking(descriptor, skip=0)
    try:
        unpacking.advance(4096, end=False)  # Unpacked(pcm=b"...", more=False)
    finally:
        unpacking.close()
    """

    def __init__(self, descriptor: int, skip: int) -> None:
        """descriptor: of the file, to be closed here. skip: samples that were told before."""
        self._file = FileIO(descriptor)
        self._skip = skip
        self._position = self._there = 0  # bytes
        self._end = self._closed = self._done = self._starved = False
        self._held: list[NDArray[np.int16]] = []
        self._count = 0  # samples in them
        self._decoded = self._packets = 0  # in this step
        self._error: BaseException | None = None
        self._go, self._rests = threading.Semaphore(0), threading.Semaphore(0)
        thread = threading.Thread(target=self._run, name="unpacking", daemon=True)
        thread.start()
        assert thread.ident is not None
        self.clock = time.pthread_getcpuclockid(thread.ident)  # it lives at least until `advance` or `close`

    def advance(self, there: int, *, end: bool) -> Unpacked:
        """Decode what can be, at most `UNPACKED` seconds of it. there: bytes that are in the file; end: no more come.
        Raises JobError."""
        self._there, self._end = there, end
        self._decoded = self._packets = 0
        if self._count < _ROOM and not self._done:
            self._starved = False
            self._go.release()
            self._rests.acquire()
        if self._error:
            raise self._error
        samples = np.concatenate(self._held) if self._held else np.zeros(0, np.int16)
        told, rest = samples[:_ROOM], samples[_ROOM:]
        self._held, self._count = [rest] if rest.size else [], rest.size
        return Unpacked(told.astype("<i2").tobytes(), more=bool(rest.size) or not (self._starved or self._done))

    def close(self) -> None:
        """The thread ends, soon; it is not waited for."""
        self._closed = True
        self._go.release()

    def read(self, size: int) -> bytes:
        """For FFmpeg, in the thread: as much as there is, at least a byte, which is waited for; none at the end."""
        while self._position >= self._there and not (self._end or self._closed):
            self._starved = True
            self._rest()
        if self._closed:
            return b""
        data = os.pread(self._file.fileno(), min(size, self._there - self._position), self._position)
        self._position += len(data)
        return data

    def _rest(self) -> None:
        self._rests.release()
        self._go.acquire()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._closed:
                self._decode()
        except BaseException as error:
            self._error = error
        finally:
            self._done = True
            self._file.close()
            self._rests.release()

    def _decode(self) -> None:
        found = 0
        head = b""
        while len(head) < containers.HEAD and (data := self.read(containers.HEAD - len(head))):
            head += data
        self._position = 0
        if not head:
            raise JobError("empty_audio", "the recording is empty")
        kind = containers.sniff(head)
        if kind is None:
            raise JobError("unsupported_media", "this is not audio in a container of a kind that is served")
        with opened(self, kind, _SOON | (_SMALL if kind == "wav" else {})) as container:
            reader = Reader(container, separate=False, soon=True)
            for block in reader.blocks():
                found += block.size
                self._take(block)
                if self._closed:
                    return
                if reader.damaged > reader.good + _DAMAGED:
                    raise JobError("undecodable", "the recording is damaged: too little of it can be decoded")
        if not found:
            raise JobError("empty_audio", "the recording holds no audio samples")

    def _take(self, block: Samples) -> None:
        passed = min(self._skip, block.size)
        self._skip -= passed
        if passed < block.size:
            self._held.append(np.clip(np.rint(block[passed:] / PCM_SCALE), -32768, 32767).astype(np.int16))
            self._count += block.size - passed
        self._decoded += block.size
        self._packets += 1
        if self._count >= _ROOM or self._decoded >= _STEP or self._packets >= _STEP_PACKETS:
            self._rest()


@dataclass(frozen=True, slots=True)
class Advance:
    """What a step does of an Unpack."""

    unpacking: Unpacking
    there: int
    end: bool

    def __call__(self) -> Unpacked | JobError:
        try:
            return self.unpacking.advance(self.there, end=self.end)
        except JobError as error:
            return error


def unpack(request: Unpack, model: str) -> LiveSteps:
    """The job. An output is told for each Append, and no other before the next one, so that the server takes in no more
    than it has room for; after the end, all that is left."""
    told = int(request.resume.partition(b" ")[0] or 0)  # samples
    descriptor = request.descriptor
    if descriptor is None:
        descriptor = os.open(request.audio.path, os.O_RDONLY | os.O_CLOEXEC)
    unpacking = Unpacking(descriptor, skip=told)
    try:
        there, end = 0, False
        while not end:
            append: Append = yield Await(there + 1)
            there, end = append.samples, append.end
            more = True
            while more:
                [step] = yield [WorkItem("unpack", Advance(unpacking, there, end))]
                if isinstance(step, JobError):
                    raise step
                told, more = told + len(step.pcm) // 2, step.more
                if step.pcm or not more:
                    # The bytes stand in the state so that those without sound count as progress too.
                    yield Emit(LiveSamples(step.pcm, there, more, b"%d %d" % (told, there)))
                    if not end:
                        break
    finally:
        unpacking.close()
    return LiveEnd(model)
