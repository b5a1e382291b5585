"""A stored voice: a name, and what was measured of each of its samples. The recordings are not kept."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from diarserve.voices.matching import Known, mean, vector


class Sample(Struct, frozen=True):
    embedding: bytes  # float32, little-endian
    seconds: float  # of speech
    model: str  # that made the embedding
    clipping: float  # share of the samples
    added_at: float  # unix seconds


class Voice(Struct, frozen=True):
    id: str
    owner: str  # the id of an access key; empty without one
    name: str
    created_at: float  # unix seconds
    samples: tuple[Sample, ...]  # of one model

    @property
    def seconds(self) -> float:
        """Of speech."""
        return sum(sample.seconds for sample in self.samples)

    @property
    def model(self) -> str:
        return self.samples[-1].model


def known_voices(voices: Sequence[Voice], model: str) -> tuple[list[Known], list[str]]:
    """Those that can be compared with embeddings of the model, and a warning for each of the others."""
    known = [_known(voice) for voice in voices if voice.model == model]
    warnings = [
        f"the voice {voice.name} was enrolled with another model and was not compared: add a sample to enrol it again"
        for voice in voices
        if voice.model != model
    ]
    return known, warnings


def _known(voice: Voice) -> Known:
    samples = [(vector(sample.embedding), sample.seconds) for sample in voice.samples]
    return Known(voice.name, mean(samples), voice.id)
