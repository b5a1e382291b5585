"""The finished transcript: one typed document, made in `service.pipeline` and read by every format and route.

Times are seconds from the recording's start, rounded to milliseconds. As JSON it is what `POST transcribe` answers;
its OpenAPI schema is generated from these types.

    document = decode(body)
    for segment in document.segments:
        print(f"{segment.start:.2f} {segment.speaker}: {segment.text}")
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from diarserve.core.encoding import encode_in_pieces

LARGE = 1000  # words: to join, encode or render more of them takes over 5 ms, and leaves the event loop
UNKNOWN = "UNKNOWN"  # the speaker of a word that no turn is near

Seconds = Annotated[float, Meta(description="Seconds.")]


class Word(Struct, frozen=True, gc=False):
    word: Annotated[str, Meta(description="As it is written, with its punctuation and without spaces around it.")]
    start: Seconds
    end: Seconds
    probability: Annotated[float, Meta(description="From 0 to 1, that of the recognizer.")]
    speaker: str
    speaker_confidence: Annotated[
        float,
        Meta(
            description="From 0 to 1. With a diarizer that tells more than turns, the probability that the speaker is "
            "right; else the share of the word that the speaker's turns cover. `models.speaker_confidence` says which."
        ),
    ]
    overlap: Annotated[bool, Meta(description="Whether turns of several speakers touch the word.")]
    other_speakers: Annotated[
        tuple[str, ...], Meta(description="Further speakers whose turns touch the word, who share most of it first.")
    ] = ()


class Segment(Struct, frozen=True):
    """Consecutive words of one speaker, in one language."""

    id: Annotated[int, Meta(ge=0)]
    start: Seconds
    end: Seconds
    speaker: str
    text: str
    words: tuple[Word, ...]
    language: Annotated[str, Meta(description="That is spoken, as the document's `language`.")] = ""
    channel: Annotated[
        Annotated[int, Meta(ge=0)] | UnsetType,
        Meta(description="With channels=separate, where it was said: 0 is the first, or left, one."),
    ] = UNSET


class Turn(Struct, frozen=True, gc=False):
    """A stretch of time in which one speaker speaks, by the diarizer. Turns of different speakers may overlap."""

    start: Seconds
    end: Seconds
    speaker: str


class Models(Struct, frozen=True):
    """Which model did each part."""

    whisper: str
    diarization: str
    alignment: Annotated[str, Meta(description="What the word times come from.")]
    source_separation: str | None
    speaker_confidence: Annotated[
        Literal["probability", "coverage"], Meta(description="What the words' `speaker_confidence` is.")
    ] = "coverage"


class Performance(Struct, frozen=True):
    """Wall times of one task in seconds. The time of a stage that was not asked for is 0."""

    parallel_processing: Annotated[bool, Meta(description="Whether both models ran at the same time.")]
    processing_time: Annotated[Seconds, Meta(description="From the complete upload to the joined transcript.")]
    queue_time: Annotated[Seconds, Meta(description="Of that, waiting for workers.")]
    decode_time: Seconds
    separation_time: Seconds
    transcription_time: Seconds
    forced_alignment_time: Seconds
    diarization_time: Seconds
    alignment_time: Annotated[Seconds, Meta(description="Joining words and turns.")]
    real_time_factor: Annotated[float, Meta(description="Processing seconds per second of audio.")]
    speedup_estimate: Annotated[float, Meta(description="Both models' times added, over the time in which both ran.")]


class VoiceCandidate(Struct, frozen=True):
    """A known voice that a speaker may be."""

    name: str
    voice_id: Annotated[str | None, Meta(description="Of a stored voice; null for one that came with the request.")]
    similarity: Annotated[float, Meta(description="Cosine of the voices, from -1 to 1.")]
    confidence: Annotated[float, Meta(description="From 0 to 1: how often a voice as similar is the same person's.")]


class SpeakerMatch(Struct, frozen=True):
    """How one speaker compares with the voices that are known."""

    speaker: Annotated[str, Meta(description="As everywhere in the document: the name, or SPEAKER_nn.")]
    diarized: Annotated[str, Meta(description="What the diarizer called the speaker: SPEAKER_nn.")]
    name: Annotated[str | None, Meta(description="Null where no known voice is similar enough.")]
    confidence: Annotated[float, Meta(description="Of the name; of the first candidate where there is no name.")]
    seconds: Annotated[Seconds, Meta(description="Of undisturbed speech that were compared.")]
    candidates: Annotated[tuple[VoiceCandidate, ...], Meta(description="The most similar first.")]


class SpeakerEmbedding(Struct, frozen=True):
    """The voice of a speaker as a vector of length 1."""

    speaker: str
    embedding: tuple[float, ...]
    seconds: Annotated[Seconds, Meta(description="Of undisturbed speech that it is the mean of.")]
    model: Annotated[str, Meta(description="Vectors of different models cannot be compared.")]


class Document(Struct, frozen=True):
    task_id: str
    status: Literal["completed"]
    filename: Annotated[str, Meta(description="What the client called the upload.")]
    language: Annotated[str, Meta(description="That most of it is in: ISO 639-1, as Whisper has it.")]
    duration: Annotated[Seconds, Meta(description="Of the recording, in seconds.")]
    text: str
    speakers: Annotated[tuple[str, ...], Meta(description="Sorted; UNKNOWN where a word is near no turn.")]
    segments: tuple[Segment, ...]
    turns: Annotated[tuple[Turn, ...], Meta(description="Sorted by start.")]
    models: Models
    degraded: Annotated[
        bool, Meta(description="Whether some of it did not fit into the device's memory and ran on less.")
    ]
    performance: Performance
    warnings: tuple[str, ...] = ()
    revision: Annotated[
        Annotated[int, Meta(ge=1)] | UnsetType, Meta(description="How often it was revised; only where it was.")
    ] = UNSET
    # Only where voices were to be compared, or embeddings returned.
    speaker_matches: tuple[SpeakerMatch, ...] | UnsetType = UNSET
    speaker_embeddings: tuple[SpeakerEmbedding, ...] | UnsetType = UNSET

    @property
    def words(self) -> int:
        """How many there are."""
        return sum(len(segment.words) for segment in self.segments)


def encode(document: Document) -> bytes:
    """As JSON. 40,000 words (four hours) take 20 ms, in calls of 3 ms at most."""
    return encode_in_pieces(document)


def decode(body: bytes) -> Document:
    """Raises msgspec.ValidationError for what is no document. One segment after the other: a single call would hold the
    interpreter's lock, and so the event loop, for 30 ms at 40,000 words."""
    raw = _decoder.decode(body)
    segments = tuple(map(_segment_decoder.decode, raw.segments))
    return Document(**msgspec.structs.asdict(raw) | {"segments": segments})


class _RawSegments(Document, frozen=True):
    segments: tuple[msgspec.Raw, ...]  # type: ignore[assignment]


_decoder = msgspec.json.Decoder(_RawSegments)
_segment_decoder = msgspec.json.Decoder(Segment)
