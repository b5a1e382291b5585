"""Which speaker of a recording is which known voice: one to one, and nobody rather than the wrong person. Pure
functions.

A speaker gets a name only where the voice is similar enough, and clearly more similar than the next. The figures are
from `python -m bench.voices` (docs/voices.md).

>>> match([Heard("SPEAKER_00", (1.0, 0.0), 9.0)], [Known("Ann", (0.9, 0.1)), Known("Bo", (0.0, 1.0))])[0].name
'Ann'
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from diarserve.transcript.document import SpeakerMatch, VoiceCandidate

THRESHOLD = 0.57  # least cosine of a name where FEW are known: with it fewer than 1 % of absent people got one
FEW = 4
RISE = 0.025  # of the threshold for ten times as many, among whom somebody is more similar by chance
LEAST_SECONDS = 1.5  # of a speaker's speech for a name: what shorter speech does was not measured
MARGIN = 0.1  # by which a voice must be more similar than the next
# Confidence as a logistic function of the cosine, fitted where half of the people are present: half at CENTRE.
CENTRE, SLOPE = 0.47, 25.0
MOST_CANDIDATES = 5

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """A voice with a name."""

    name: str
    vector: Vector
    voice_id: str | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """A speaker of a recording."""

    speaker: str  # as the diarizer has it
    vector: Vector  # empty for one who never speaks alone
    seconds: float  # of speech that the vector is the mean of


def vector(embedding: bytes) -> Vector:
    """Of float32, little-endian: a vector of length 1."""
    return unit(struct.unpack(f"<{len(embedding) // 4}f", embedding))


def unit(values: Sequence[float]) -> Vector:
    length = math.sqrt(math.fsum(value * value for value in values)) or 1.0
    return tuple(value / length for value in values)


def mean(vectors: Sequence[tuple[Vector, float]]) -> Vector:
    """Of one person's samples, by their seconds of speech."""
    dimensions = zip(*([value * seconds for value in vector] for vector, seconds in vectors), strict=True)
    return unit([math.fsum(values) for values in dimensions])


def similarity(one: Vector, other: Vector) -> float:
    """The cosine of vectors of length 1."""
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


def confidence(cosine: float) -> float:
    """How often a voice as similar is the same person's.

    >>> confidence(0.3) < 0.05, confidence(0.7) > 0.95
    (True, True)
    """
    return 1 / (1 + math.exp(-SLOPE * (cosine - CENTRE)))


def threshold(known: int) -> float:
    """The least cosine of a name where so many voices are known.

    >>> [round(threshold(known), 3) for known in (1, 4, 40, 400)]
    [0.57, 0.57, 0.595, 0.62]
    """
    return THRESHOLD + RISE * math.log10(max(known, FEW) / FEW)


def match(heard: Sequence[Heard], known: Sequence[Known]) -> list[SpeakerMatch]:
    """For each speaker the name, if there is one, and the candidates. No two speakers get one name. `speaker` is the
    name, or what the diarizer calls the speaker. Vectors have length 1 and are of one model."""
    cosines = [[similarity(one.vector, other.vector) for other in known if one.vector] for one in heard]
    # Too little speech for a name is as good as none alike.
    enough = [
        own if one.seconds >= LEAST_SECONDS else [0.0] * len(known) for one, own in zip(heard, cosines, strict=True)
    ]
    names = assign(enough)
    return [
        _match(one, own, known, names.get(number)) for number, (one, own) in enumerate(zip(heard, cosines, strict=True))
    ]


def assign(cosines: Sequence[Sequence[float]]) -> dict[int, int]:
    """The known voice of each speaker who has one, from cosines (speakers, voices): of all assignments the one with the
    largest sum (Kuhn 1955), of pairs above the threshold.

    A pair stands where it is the speaker's best, and better by the margin than every voice that is nobody else's: of
    two voices that are much alike, each is told by its own speaker where both speak.
    """
    least = threshold(max(map(len, cosines), default=0))
    allowed = [[cosine if cosine >= least else 0.0 for cosine in row] for row in cosines]
    if not any(map(any, allowed)):
        return {}
    from scipy.optimize import linear_sum_assignment  # takes 0.3 s to import: only servers that know voices pay it

    pairs = zip(*(indices.tolist() for indices in linear_sum_assignment(allowed, maximize=True)), strict=True)
    assigned = {speaker: voice for speaker, voice in pairs if allowed[speaker][voice] > 0}
    taken = set(assigned.values())
    return {
        speaker: voice
        for speaker, voice in assigned.items()
        if all(
            cosines[speaker][voice] - cosine >= (0.0 if other in taken else MARGIN)
            for other, cosine in enumerate(cosines[speaker])
            if other != voice
        )
    }


def _match(heard: Heard, cosines: Sequence[float], known: Sequence[Known], chosen: int | None) -> SpeakerMatch:
    ranked = sorted(zip(cosines, known, strict=bool(cosines)), key=lambda pair: -pair[0])[:MOST_CANDIDATES]
    candidates = tuple(
        VoiceCandidate(voice.name, voice.voice_id, round(cosine, 4), round(confidence(cosine), 4))
        for cosine, voice in ranked
    )
    name = None if chosen is None else known[chosen].name
    sure = candidates[0].confidence if candidates else 0.0
    return SpeakerMatch(name or heard.speaker, heard.speaker, name, sure, heard.seconds, candidates)
