"""What messages (workers.messages) are made of, which has it all under its own name too."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

SAMPLE_RATE = 16_000  # Hz
MAX_CHANNELS = 8  # of a recording
MAX_STEP_TIMES = 128  # as many as OpenTelemetry keeps events of a span by default; four hours of audio have thousands

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
    channel: int = 0  # of the request's `channels`


class Spoken(Message, frozen=True):
    """What DetectLanguage is answered with."""

    language: str  # ISO 639-1, as Whisper has it
    probability: float  # 0 to 1
    model: str


class Turn(Struct, frozen=True, array_like=True, gc=False):
    start: float
    end: float
    speaker: str  # SPEAKER_00, SPEAKER_01, … in order of first appearance


class AudioRef(Message, frozen=True, gc=False):
    """A file of raw samples, 16 kHz mono, for every worker to read: float32, or, from byte `pcm` on, 16-bit. Where the
    channels were kept apart the file holds float32 of all of them in turn, and this is one of them."""

    path: str
    samples: int  # of one channel
    pcm: int | None = None
    channels: int = 1
    channel: int = 0
    independent: bool = False  # the channels were mixed, but different people speak in them

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples / SAMPLE_RATE

    def each(self) -> tuple[AudioRef, ...]:
        """Every channel that was kept apart."""
        return tuple(replace(self, channel=channel) for channel in range(self.channels))


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


class StepTimes(Struct, frozen=True, array_like=True, gc=False):
    """One step of a job, for its trace."""

    after: float  # seconds from the start of the job's first step
    seconds: float
    kind: str  # of its work items
    items: int  # in the step, other jobs' too
    jobs: int  # that shared it
    on_fallback: bool
    failed: bool = False
