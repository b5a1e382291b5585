"""What the server tells of the voices that it keeps."""

from __future__ import annotations

from msgspec import Struct


class VoiceSample(Struct, frozen=True):
    seconds: float  # of speech
    clipping: float = 0.0  # share of the samples that are clipped
    added_at: str | None = None  # RFC 3339, UTC


class StoredVoice(Struct, frozen=True):
    voice_id: str
    name: str
    created_at: str | None = None
    model: str = ""  # that made the embeddings; voices of another model are not compared
    seconds: float = 0.0  # of speech, all samples together
    samples: tuple[VoiceSample, ...] = ()


class VoicesPage(Struct):
    voices: tuple[StoredVoice, ...]
