"""The finished transcript, as the server tells it. Times are seconds from the recording's start.

What a newer server adds is left out, and what an older one does not tell has its default.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct


class Word(Struct, frozen=True, gc=False):
    word: str  # as it is written, with its punctuation and without spaces around it
    start: float
    end: float
    probability: float  # from 0 to 1, that of the recognizer
    speaker: str
    speaker_confidence: float = 0.0  # from 0 to 1; the document's models.speaker_confidence says what it is
    overlap: bool = False  # whether turns of several speakers touch the word
    other_speakers: tuple[str, ...] = ()  # further speakers whose turns touch it, who share most of it first


class Segment(Struct, frozen=True):
    """Consecutive words of one speaker, in one language."""

    id: int
    start: float
    end: float
    speaker: str
    text: str
    words: tuple[Word, ...] = ()
    language: str = ""
    channel: int | None = None  # with channels="separate", where it was said: 0 is the first, or left, one


class Turn(Struct, frozen=True, gc=False):
    """A stretch of time in which one speaker speaks. Turns of different speakers may overlap."""

    start: float
    end: float
    speaker: str


class Models(Struct, frozen=True):
    """Which model did each part."""

    whisper: str
    diarization: str
    alignment: str  # what the word times come from
    source_separation: str | None = None
    speaker_confidence: str = "coverage"  # or probability


class Performance(Struct, frozen=True):
    """Wall times of one task in seconds. The time of a stage that was not asked for is 0."""

    parallel_processing: bool = True
    processing_time: float = 0.0  # from the complete upload to the joined transcript
    queue_time: float = 0.0  # of that, waiting for workers
    decode_time: float = 0.0
    separation_time: float = 0.0
    transcription_time: float = 0.0
    forced_alignment_time: float = 0.0
    diarization_time: float = 0.0
    alignment_time: float = 0.0  # joining words and turns
    real_time_factor: float = 0.0  # processing seconds per second of audio
    speedup_estimate: float = 0.0  # both models' times added, over the time in which both ran


class VoiceCandidate(Struct, frozen=True):
    """A known voice that a speaker may be."""

    name: str
    voice_id: str | None
    similarity: float  # cosine of the voices, from -1 to 1
    confidence: float  # from 0 to 1: how often a voice as similar is the same person's


class SpeakerMatch(Struct, frozen=True):
    """How one speaker compares with the voices that are known."""

    speaker: str
    diarized: str  # what the diarizer called the speaker
    name: str | None  # None where no known voice is similar enough
    confidence: float
    seconds: float  # of undisturbed speech that were compared
    candidates: tuple[VoiceCandidate, ...] = ()


class SpeakerEmbedding(Struct, frozen=True):
    """The voice of a speaker as a vector of length 1. Vectors of different models cannot be compared."""

    speaker: str
    embedding: tuple[float, ...]
    seconds: float
    model: str


class Document(Struct, frozen=True):
    task_id: str
    status: str
    filename: str
    language: str  # that most of it is in: ISO 639-1
    duration: float
    text: str
    speakers: tuple[str, ...]  # UNKNOWN is among them where a word is near no turn
    segments: tuple[Segment, ...]
    turns: tuple[Turn, ...]
    models: Models
    degraded: bool = False  # whether some of it did not fit into the device's memory and ran on less
    performance: Performance = Performance()
    warnings: tuple[str, ...] = ()
    revision: int = 0  # how often somebody changed it
    speaker_matches: tuple[SpeakerMatch, ...] = ()  # where voices were to be compared
    speaker_embeddings: tuple[SpeakerEmbedding, ...] = ()  # where they were asked for

    def words(self) -> Iterator[Word]:
        for segment in self.segments:
            yield from segment.words
