"""What crosses the channel between the server and a worker. Times are seconds, audio is 16 kHz mono float32."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SAMPLE_RATE = 16_000
CROSS_ATTENTION = "whisper cross-attention"  # where word times come from without forced alignment


class _Message:
    """Pickled as its class and its fields in order, which takes half the time of what dataclasses with slots do."""

    __slots__: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), tuple(getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class BatchFill(_Message):
    """Which jobs share a step."""

    items: int = 0  # at most, where that is more than the engine takes of one job
    within: float = math.inf  # seconds by which they may differ in urgency


@dataclass(frozen=True, slots=True)
class WorkerSpec(_Message):
    """How to start one worker process: which engine, with which options, within which limits."""

    lane: str
    engine: str  # "package.module:Class", or a short name: workers.runtime.engines
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)  # set before anything heavy is imported
    memory_limit: int | None = None  # bytes of address space (RLIMIT_AS)
    file_limit: int | None = None  # bytes in one written file (RLIMIT_FSIZE)
    fill: BatchFill | None = None  # whether one step may hold items of several jobs
    step_timeout: float = 120.0  # seconds; a step that takes longer hangs
    log_level: str = "info"
    log_modules: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AudioRef(_Message):
    """A file of raw samples, 16 kHz mono, for every worker to read: float32, or, from byte `pcm` on, 16-bit."""

    path: str
    samples: int
    pcm: int | None = None

    @property
    def duration(self) -> float:
        return self.samples / SAMPLE_RATE


class Word(NamedTuple):  # there are many: made and pickled in half the time that a dataclass takes
    word: str  # as Whisper spells it, with its leading space where it has one
    start: float
    end: float
    probability: float

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return Word, tuple(self)


class Turn(NamedTuple):
    start: float
    end: float
    speaker: str  # SPEAKER_00, SPEAKER_01, … in order of first appearance

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return Turn, tuple(self)


# Requests: what a job asks of a worker.


@dataclass(frozen=True, slots=True)
class Decode(_Message):
    source: str
    target: str
    max_seconds: float


@dataclass(frozen=True, slots=True)
class Transcribe(_Message):
    audio: AudioRef
    language: str | None = None  # None: detect, where the model can
    model: str | None = None  # None: the worker's default
    translate: bool = False  # into English
    prompt: str | None = None  # text that stands before the recording, for its style and spelling
    hotwords: str | None = None  # words to expect
    beam: int | None = None  # None, here and below: the worker's setting
    temperature: float | None = None
    interim: bool = False  # somebody watches: tell the first sentences of a chunk before the rest of it is written


@dataclass(frozen=True, slots=True)
class Diarize(_Message):
    audio: AudioRef
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None


@dataclass(frozen=True, slots=True)
class Align(_Message):
    """Find the times of words that are known."""

    audio: AudioRef
    words: tuple[Word, ...]  # with rough times, in order
    language: str


@dataclass(frozen=True, slots=True)
class Separate(_Message):
    """Free the voices of music and noise."""

    audio: AudioRef
    target: str  # the file to write


Request = Decode | Transcribe | Diarize | Align | Separate


# Results: what a finished job hands back.


@dataclass(frozen=True, slots=True)
class Transcript(_Message):
    words: tuple[Word, ...]
    language: str
    model: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diarization(_Message):
    turns: tuple[Turn, ...]  # sorted by start; turns of different speakers may overlap
    model: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alignment(_Message):
    words: tuple[Word, ...]  # those of the request, in its order
    model: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Separation(_Message):
    audio: AudioRef  # as long as the original
    model: str | None  # None: there was nothing to separate, and it is the original
    warnings: tuple[str, ...] = ()


# Server to worker.


@dataclass(frozen=True, slots=True)
class Submit(_Message):
    job: str
    task: str  # what the log calls it
    request: Request
    virtual_deadline: float  # the smaller, the more urgent; see diarserve.pool.lane


@dataclass(frozen=True, slots=True)
class Cancel(_Message):
    job: str


# Worker to server.


@dataclass(frozen=True, slots=True)
class Ready(_Message):
    model: Mapping[str, Any]  # what the engine says of itself
    seconds: float  # import, load and warm-up


@dataclass(frozen=True, slots=True)
class Report(_Message):
    """What changed in a worker besides its jobs."""

    model: Mapping[str, Any]  # what the engine says of itself now
    events: tuple[str, ...] = ()  # to be counted: load, unload, out_of_memory, fallback


@dataclass(frozen=True, slots=True)
class BootFailed(_Message):
    reason: str


@dataclass(frozen=True, slots=True)
class Progress(_Message):
    """One step of a job is done. Also the sign of life that the step deadline watches."""

    job: str
    share: float  # of the job that is done, as far as it can be told: 0 to 1; 0 (from the lane): it starts again
    partial: tuple[Any, ...] = ()  # outputs that are worth showing before the job is done, in the phase's order
    interim: tuple[Word, ...] = ()  # the beginning of the output that comes next, where that is transcription


@dataclass(frozen=True, slots=True)
class Done(_Message):
    job: str
    result: Any
    started: float  # time.monotonic() of the first step, comparable across processes of one machine
    finished: float
    busy: float  # seconds spent in this job's steps
    degraded: bool = False  # some steps did not fit into the device's memory and ran on a on_fallback model


@dataclass(frozen=True, slots=True)
class Failed(_Message):
    job: str
    code: str  # stable, for machines
    message: str  # for people; no paths, no traces
    retry: bool  # whether another try may end better
