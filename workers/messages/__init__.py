"""What crosses the channel between the server and a worker (workers.runtime.channel): MessagePack, decoded by type.

The server never unpickles what a worker has written: workers read hostile files. Times are seconds from the start of
the recording, audio is 16 kHz mono. All of it is made of Python's own types: a numpy scalar is sent as what it holds.

    frame = channel.pack(Submit("whisper-1", "task", Transcribe(AudioRef("/a.f32", samples=32_000)), 12.5))
    # ... and the worker's end: Submit(job="whisper-1", ...)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Generic

from msgspec import Struct, field

from workers.messages.live import Append, Awaiting, Heard
from workers.messages.requests import RESULTS as RESULTS
from workers.messages.requests import Align as Align
from workers.messages.requests import Asks as Asks
from workers.messages.requests import Decode as Decode
from workers.messages.requests import DetectLanguage as DetectLanguage
from workers.messages.requests import Diarize as Diarize
from workers.messages.requests import Embed as Embed
from workers.messages.requests import Follow as Follow
from workers.messages.requests import Listen as Listen
from workers.messages.requests import LiveRequest as LiveRequest
from workers.messages.requests import Request as Request
from workers.messages.requests import Separate as Separate
from workers.messages.requests import Transcribe as Transcribe
from workers.messages.requests import Unpack as Unpack
from workers.messages.results import Alignment as Alignment
from workers.messages.results import Diarization as Diarization
from workers.messages.results import Embeddings as Embeddings
from workers.messages.results import R as R
from workers.messages.results import Result as Result
from workers.messages.results import Separation as Separation
from workers.messages.results import Transcript as Transcript
from workers.messages.results import Voice as Voice
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
