"""What a finished job hands back; `workers.messages` has it under its own name too. Decode hands back an AudioRef."""

from __future__ import annotations

from typing import TypeVar

from msgspec import Struct

from workers.messages.live import LiveEnd
from workers.messages.values import AudioRef, Message, SpeakerActivity, Spoken, Turn, Word


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
