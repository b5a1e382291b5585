"""What crosses the channel between the server and a worker (workers.runtime.channel): MessagePack, decoded by type.

The server never unpickles what a worker has written: workers read hostile files. Times are seconds from the start of
the recording, audio is 16 kHz mono. All of it is made of Python's own types: a numpy scalar is sent as what it holds.

    frame = channel.pack(Submit("whisper-1", "task", Transcribe(AudioRef("/a.f32", samples=32_000)), 12.5))
    # ... and the worker's end: Submit(job="whisper-1", ...)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct, field

SAMPLE_RATE = 16_000  # Hz
CROSS_ATTENTION = "whisper cross-attention"  # where word times come from without forced alignment

# Why a job cannot be done: stable, for machines. diarserve.core.errors gives each its HTTP status.
JobErrorCode = Literal[
    "unsupported_media",  # not a kind of file or codec that is served
    "undecodable",  # damaged
    "truncated",  # much shorter than its header says
    "empty_audio",
    "no_audio",  # a video without sound
    "too_long",
    "invalid_language",  # no language code
    "language_unavailable",
    "translation_unavailable",
    "model_unavailable",
    "too_many_speakers",
    "out_of_memory",  # of the device
    "storage_full",
    "internal",  # the engine raised something else
    "crashed",  # the worker died of it; said by the server
]


class Message(Struct, frozen=True, tag=True):
    """Told from others by its class's name."""


# What messages are made of. `gc=False`: they hold no references back, so that the garbage collector need not look.


class Word(Struct, frozen=True, array_like=True, gc=False):
    """Of a hundred bytes and no field names, since hours have tens of thousands: 40,000 are packed in 1 ms and read in
    5 ms (pickled NamedTuples: 39 and 23 ms)."""

    word: str  # as Whisper spells it, with its leading space where it has one
    start: float
    end: float
    probability: float  # 0 to 1
    language: str = ""  # that is spoken; empty: that of the transcript


class Turn(Struct, frozen=True, array_like=True, gc=False):
    start: float
    end: float
    speaker: str  # SPEAKER_00, SPEAKER_01, … in order of first appearance


class AudioRef(Message, frozen=True, gc=False):
    """A file of raw samples, 16 kHz mono, for every worker to read: float32, or, from byte `pcm` on, 16-bit."""

    path: str
    samples: int
    pcm: int | None = None

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples / SAMPLE_RATE


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


class SpeakerActivity(Struct, frozen=True, gc=False):
    """How well each frame of a recording fits each speaker, by the diarizer: near 1, it is surely this one who speaks;
    0, surely not. Four hours of four speakers are 600 kB.

    The margin of a word is its speaker's mean level less the highest of the others', from -1 to 1. The probability that
    its speaker is right is 1 / (1 + exp(-(bias + slope * margin))): the diarizer knows what its levels are worth.

        SpeakerActivity(0.0, 0.1, ("SPEAKER_00", "SPEAKER_01"), bytes([250, 240, 9, 0, 5, 255]), 0.0, 5.0)  # 0.3 s
    """

    start: float  # seconds, of the first frame
    step: float  # seconds from one frame to the next
    speakers: tuple[str, ...]
    levels: bytes  # one byte a frame, 255 being 1: all frames of the first speaker, of the second, ...
    bias: float
    slope: float


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


Result = AudioRef | Transcript | Diarization | Alignment | Separation | Embeddings
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


Request = Decode | Transcribe | Diarize | Align | Separate | Embed


RESULTS: Mapping[type[Request], type[Result]] = {
    Decode: AudioRef,
    Transcribe: Transcript,
    Diarize: Diarization,
    Align: Alignment,
    Separate: Separation,
    Embed: Embeddings,
}


# Server to worker.


class Submit(Message, frozen=True):
    job: str
    task: str  # what the log calls it
    request: Request
    virtual_deadline: float  # the smaller, the more urgent (diarserve.pool.job)
    files: int = 0  # how many open descriptors were sent ahead of it (workers.runtime.job_files)


class Cancel(Message, frozen=True):
    job: str


ToWorker = WorkerSpec | Submit | Cancel


# Worker to server.


class Ready(Message, frozen=True):
    model: Mapping[str, Any]  # what the engine says of itself
    seconds: float  # import, load and warm-up


class BootFailed(Message, frozen=True):
    reason: str


class Report(Message, frozen=True):
    """What changed in a worker besides its jobs."""

    model: Mapping[str, Any]  # what the engine says of itself now
    events: tuple[str, ...] = ()  # to be counted: load, unload, out_of_memory, fallback


class Progress(Message, frozen=True):
    """One step of a job is done. Also the sign of life that the step deadline watches."""

    job: str
    share: float  # of the job that is done, as far as it can be told: 0 to 1; 0 (from the lane): it starts again
    partial: tuple[tuple[Word, ...], ...] = ()  # of transcription: words of speech chunks, in order, before it is done
    interim: tuple[Word, ...] = ()  # the beginning of the chunk that comes next


class Done(Message, Generic[R], frozen=True):
    job: str
    result: R
    started: float  # time.monotonic() of the first step, comparable across processes of one machine
    finished: float
    busy: float  # seconds spent in this job's steps
    degraded: bool = False  # some steps did not fit into the device's memory and ran on the engine's fallback


class Failed(Message, frozen=True):
    job: str
    code: JobErrorCode
    message: str  # for people; no paths, no traces
    retry: bool  # whether another try may end better
    trace: str = ""  # for the log of the server, which knows whether anybody still waits for the job


FromWorker = Ready | BootFailed | Report | Progress | Done[Result] | Failed
