"""What a job asks of a worker (workers.messages, which has it all under its own name too)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic

from workers.messages.live import LiveEnd
from workers.messages.results import Alignment, Diarization, Embeddings, R, Result, Separation, Transcript
from workers.messages.values import AudioRef, Message, Spoken, Turn, Word


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
