"""What crosses the channel between the server and a worker (workers.runtime.channel): MessagePack, decoded by type.

The server never unpickles what a worker has written: workers read hostile files. Times are seconds from the start of
the recording, audio is 16 kHz mono. All of it is made of Python's own types: a numpy scalar is sent as what it holds.

    frame = channel.pack(Submit("whisper-1", "task", Transcribe(AudioRef("/a.f32", samples=32_000)), 12.5))
    # ... and the worker's end: Submit(job="whisper-1", ...)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from msgspec import Struct, field

from workers.messages.live import Append, Awaiting, Heard, LiveEnd
from workers.messages.values import MAX_CHANNELS as MAX_CHANNELS
from workers.messages.values import SAMPLE_RATE as SAMPLE_RATE
from workers.messages.values import AudioRef as AudioRef
from workers.messages.values import JobErrorCode as JobErrorCode
from workers.messages.values import Message as Message
from workers.messages.values import SpeakerActivity as SpeakerActivity
from workers.messages.values import Spoken as Spoken
from workers.messages.values import StepTimes as StepTimes
from workers.messages.values import Turn as Turn
from workers.messages.values import Word as Word

CROSS_ATTENTION = "whisper cross-attention"  # where word times come from without forced alignment


class BatchFill(Struct, frozen=True, gc=False):
    """Which jobs share a step."""

    items: int = 0  # at most, where that is more than the engine takes of one job
    within: float = math.inf  # seconds by which their virtual deadlines may differ


class WorkerSpec(Message, frozen=True):
    """How to start one worker: which engine, with which options, within which limits. The first message to it."""

    lane: str
    engine: str  # "package.module:Class", or the name of an entry point
    options: Mapping[str, Any] = field(default_factory=dict)  # what the engine is made with: what JSON can hold
    environment: Mapping[str, str] = field(default_factory=dict)  # set before the process begins
    memory_limit: int | None = None  # bytes of address space (RLIMIT_AS)
    file_limit: int | None = None  # bytes in one written file (RLIMIT_FSIZE)
    fill: BatchFill | None = None  # whether one step may hold items of several jobs
    step_timeout: float = 120.0  # seconds; a step that takes longer hangs
    log_level: str = "info"
    log_modules: Mapping[str, str] = field(default_factory=dict)
    open_files: int = 256  # descriptors that the process of an engine with `jailed` may have (RLIMIT_NOFILE)


# Results: what a finished job hands back. Decode's is an AudioRef.


class Transcript(Message, frozen=True):
    words: tuple[Word, ...]
    language: str  # that most of the speech is in
    model: str
    warnings: tuple[str, ...] = ()


class Diarization(Message, frozen=True):
    turns: tuple[Turn, ...]  # sorted by start; turns of different speakers may overlap
    model: str
    warnings: tuple[str, ...] = ()
    activity: SpeakerActivity | None = None  # None: this diarizer knows no more than its turns


class Alignment(Message, frozen=True):
    words: tuple[Word, ...]  # those of the request, in its order
    model: str
    warnings: tuple[str, ...] = ()


class Separation(Message, frozen=True):
    audio: AudioRef  # as long as the original
    model: str | None  # None: there was nothing to separate, and it is the original
    warnings: tuple[str, ...] = ()


class Voice(Struct, frozen=True, gc=False):
    """How one speaker sounds, as a vector: the more alike two voices, the larger the cosine."""

    speaker: str
    embedding: bytes  # of unit length: float32, little-endian
    seconds: float  # of the speaker's undisturbed speech that it is the mean of


class Embeddings(Message, frozen=True):
    voices: tuple[Voice, ...]  # by speaker; without those who never speak alone
    model: str  # vectors of different models must not be compared
    clipping: float = 0.0  # share of the samples that are as loud as a sample can be


Result = AudioRef | Transcript | Diarization | Alignment | Separation | Embeddings | Spoken | LiveEnd
R = TypeVar("R", bound=Result)


# Requests: what a job asks of a worker.


class Asks(Message, Generic[R], frozen=True):
    """A request that is answered with an R."""


class Decode(Asks[AudioRef], frozen=True):
    source: str  # the uploaded file
    target: str  # the file to write samples to; the result may name the source instead
    max_seconds: float
    # Of the source, to be read, and of the target, to be written, which are the engine's to close. In an engine with
    # `jailed` only, which could open neither path: the server opens them (diarserve.pool.job_files).
    descriptors: tuple[int, int] | None = None
    separate: bool = False  # keep the channels apart, where there are several


class Transcribe(Asks[Transcript], frozen=True):
    audio: AudioRef
    language: str | None = None  # None: detect, where the model can
    model: str | None = None  # None: the worker's default
    translate: bool = False  # into English
    prompt: str | None = None  # text that stands before the recording, for its style and spelling
    hotwords: str | None = None  # words to expect
    beam: int | None = None  # None, here and below: the worker's setting
    temperature: float | None = None
    interim: bool = False  # somebody watches: tell the first sentences of a chunk before the rest of it is written
    # In place of `audio`, where it has several: each is transcribed on its own, without what it has of the others.
    channels: tuple[AudioRef, ...] = ()


class DetectLanguage(Asks[Spoken], frozen=True):
    audio: AudioRef


class Diarize(Asks[Diarization], frozen=True):
    audio: AudioRef
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None


class Align(Asks[Alignment], frozen=True):
    """Find the times of words that are known."""

    audio: AudioRef
    words: tuple[Word, ...]  # with rough times, in order
    language: str


class Separate(Asks[Separation], frozen=True):
    """Free the voices of music and noise."""

    audio: AudioRef
    target: str  # the file to write


class Embed(Asks[Embeddings], frozen=True):
    """How the speakers of a recording sound."""

    audio: AudioRef
    turns: tuple[Turn, ...] | None = None  # of any diarizer, sorted by start; None: find them


class Listen(Asks[LiveEnd], frozen=True):
    """Recognize audio that keeps arriving: answered with LiveWords (workers.messages.live)."""

    audio: AudioRef  # a file that grows: the samples are those that are in it by now
    language: str | None = None  # None, here and below: as in Transcribe
    model: str | None = None
    prompt: str | None = None
    hotwords: str | None = None
    interim: bool = True  # whether words are told before they are final
    endpointing: float = 0.5  # seconds of silence that end an utterance
    resume: bytes = b""  # the state of the last output that was received, where an earlier worker died


class Follow(Asks[LiveEnd], frozen=True):
    """Diarize audio that keeps arriving: answered with LiveTurns. Fields as in Listen and Diarize."""

    audio: AudioRef
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    resume: bytes = b""


class Unpack(Asks[LiveEnd], frozen=True):
    """Decode a recording that keeps arriving, in any container: answered with LiveSamples."""

    audio: AudioRef  # a file that grows; `samples` are its bytes by now
    descriptor: int | None = None  # of the file, as Decode.descriptors
    resume: bytes = b""


LiveRequest = Listen | Follow | Unpack
Request = Decode | Transcribe | DetectLanguage | Diarize | Align | Separate | Embed | Listen | Follow | Unpack

RESULTS: Mapping[type[Request], type[Result]] = {
    Decode: AudioRef,
    Transcribe: Transcript,
    DetectLanguage: Spoken,
    Diarize: Diarization,
    Align: Alignment,
    Separate: Separation,
    Embed: Embeddings,
    Listen: LiveEnd,
    Follow: LiveEnd,
    Unpack: LiveEnd,
}


# Server to worker.


class Submit(Message, frozen=True):
    job: str
    task: str  # what the log calls it
    request: Request
    virtual_deadline: float  # the smaller, the more urgent (diarserve.pool.job)
    files: int = 0  # how many open descriptors were sent ahead of it (workers.runtime.job_files)
    traceparent: str = ""  # of the trace that the job is part of (W3C); empty: of none


class Cancel(Message, frozen=True):
    job: str


ToWorker = WorkerSpec | Submit | Cancel | Append


# Worker to server.


class Ready(Message, frozen=True):
    model: Mapping[str, Any]  # what the engine says of itself
    seconds: float  # import, load and warm-up


class BootFailed(Message, frozen=True):
    reason: str


class StepCount(Struct, frozen=True, gc=False):
    """Batch runs of one kind since the last report."""

    kind: str  # of what the engine ran: the key of its work items, or the first part of it
    steps: int
    items: int
    size: float  # of the batches, padding included; 1 is an item of full length
    capacity: float  # that they might have had
    seconds: float


class Report(Message, frozen=True):
    """What changed in a worker besides its jobs."""

    model: Mapping[str, Any]  # what the engine says of itself now
    events: tuple[str, ...] = ()  # to be counted: load, unload, out_of_memory, fallback
    steps: tuple[StepCount, ...] = ()


class Progress(Message, frozen=True):
    """One step of a job is done. Also the sign of life that the step deadline watches."""

    job: str
    share: float  # of the job that is done, as far as it can be told: 0 to 1; 0 (from the lane): it starts again
    partial: tuple[tuple[Word, ...], ...] = ()  # of transcription: words of speech chunks, in order, before it is done
    interim: tuple[Word, ...] = ()  # the beginning of the chunk that comes next


class Done(Message, Generic[R], frozen=True):
    job: str
    result: R
    took: float  # seconds from the first step to the end: workers on other machines have clocks of their own
    busy: float  # seconds spent in this job's steps
    degraded: bool = False  # some steps did not fit into the device's memory and ran on the engine's fallback
    steps: tuple[StepTimes, ...] = ()  # of a job with a sampled trace: the first MAX_STEP_TIMES of them
    step_count: int = 0  # ... and how many there were
    finished: float = 0.0  # when the server heard of it, on its monotonic clock, which it fills in

    @property
    def started(self) -> float:
        return self.finished - self.took


class Failed(Message, frozen=True):
    job: str
    code: JobErrorCode
    message: str  # for people; no paths, no traces
    retry: bool  # whether another try may end better
    trace: str = ""  # for the log of the server, which knows whether anybody still waits for the job
    took: float = 0.0  # this and what follows: as in Done
    steps: tuple[StepTimes, ...] = ()
    step_count: int = 0
    finished: float = 0.0

    @property
    def started(self) -> float:
        return self.finished - self.took


FromWorker = Ready | BootFailed | Report | Progress | Done[Result] | Failed | Heard | Awaiting
