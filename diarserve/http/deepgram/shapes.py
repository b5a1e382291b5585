"""A transcript in Deepgram's shape. Pure functions.

https://developers.deepgram.com/reference/speech-to-text/listen-pre-recorded
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain

from msgspec import UNSET, Struct, UnsetType

from diarserve.http.deepgram.options import RecordingParameters, Warned
from diarserve.transcript.document import UNKNOWN, Document, Seconds, Segment, Word
from workers.words import ends_sentence

_EDGES = re.compile(r"^\W+|\W+$")


class ListenWord(Struct, kw_only=True, gc=False):
    word: str
    start: Seconds
    end: Seconds
    confidence: float
    speaker: int | UnsetType = UNSET  # from 0, in the order in which they speak; none where it is nobody's
    speaker_confidence: float | UnsetType = UNSET
    punctuated_word: str | UnsetType = UNSET


class ListenSentence(Struct):
    text: str
    start: Seconds
    end: Seconds


class Paragraph(Struct, kw_only=True):
    sentences: list[ListenSentence]
    num_words: int
    start: Seconds
    end: Seconds
    speaker: int | UnsetType = UNSET


class Paragraphs(Struct):
    transcript: str
    paragraphs: list[Paragraph]


class Utterance(Struct, kw_only=True):
    start: Seconds
    end: Seconds
    confidence: float
    channel: int
    transcript: str
    words: list[ListenWord]
    id: str
    speaker: int | UnsetType = UNSET


class Alternative(Struct, kw_only=True):
    transcript: str
    confidence: float
    words: list[ListenWord]
    paragraphs: Paragraphs | UnsetType = UNSET


class Channel(Struct, kw_only=True):
    alternatives: list[Alternative]
    detected_language: str | UnsetType = UNSET
    language_confidence: float | UnsetType = UNSET


class Results(Struct):
    channels: list[Channel]
    utterances: list[Utterance] | UnsetType = UNSET


class ModelInfo(Struct):
    name: str
    version: str
    arch: str


class Metadata(Struct, kw_only=True):
    transaction_key: str = "deprecated"
    request_id: str
    sha256: str
    created: str
    duration: Seconds
    channels: int
    models: list[str]
    model_info: dict[str, ModelInfo]
    warnings: Sequence[Warned] | UnsetType = UNSET


class ListenAnswer(Struct):
    metadata: Metadata
    results: Results


def answer(
    document: Document, asked: RecordingParameters, request_id: str, sha256: str, warned: Sequence[Warned]
) -> ListenAnswer:
    """sha256: of the recording, in hexadecimal."""
    words = chain.from_iterable(segment.words for segment in document.segments)
    numbers = speaker_numbers(words) if asked.says_speakers else {}
    channels: list[list[Segment]] = [[]]
    for segment in document.segments:
        number = 0 if segment.channel is UNSET else segment.channel
        channels.extend([] for _ in range(number + 1 - len(channels)))
        channels[number].append(segment)
    results = Results([_channel(segments, document.language, asked, numbers) for segments in channels])
    if asked.utterances:
        utterances = [
            _utterance(part, number)
            for number, channel in enumerate(results.channels)
            for part in _utterances(channel.alternatives[0].words, asked.utt_split)
        ]
        results.utterances = sorted(utterances, key=lambda utterance: utterance.start)
    model = model_id(document.models.whisper)
    metadata = Metadata(
        request_id=request_id,
        sha256=sha256,
        created=now(),
        duration=document.duration,
        channels=len(channels),
        models=[model],
        model_info={model: model_info(document.models.whisper)},
        warnings=warned or UNSET,
    )
    return ListenAnswer(metadata, results)


def _channel(
    segments: Sequence[Segment], language: str, asked: RecordingParameters, numbers: Mapping[str, int]
) -> Channel:
    words = [listen_word(word, numbers, punctuated=asked.punctuated) for segment in segments for word in segment.words]
    whole = Alternative(transcript=transcript(words), confidence=confidence(words), words=words)
    if asked.says_paragraphs:
        whole.paragraphs = _paragraphs(segments, numbers)
    channel = Channel(alternatives=[whole])
    if asked.says_language:
        channel.detected_language = language
    return channel


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def model_id(name: str) -> str:
    """Deepgram's models have UUIDs."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"diarserve:{name}"))


def model_info(name: str) -> ModelInfo:
    return ModelInfo(name, "1", "whisper")


def speaker_numbers(words: Iterable[Word]) -> dict[str, int]:
    """Each speaker's number, by who speaks first. Words that are nobody's have none."""
    speakers = dict.fromkeys(word.speaker for word in words)
    speakers.pop(UNKNOWN, None)
    return {speaker: number for number, speaker in enumerate(speakers)}


def listen_word(word: Word, numbers: Mapping[str, int], *, punctuated: bool, confident: bool = True) -> ListenWord:
    """confident: with the speaker's confidence, which streams do not have."""
    said = ListenWord(word=plain(word.word), start=word.start, end=word.end, confidence=word.probability)
    if word.speaker in numbers:
        said.speaker = numbers[word.speaker]
        if confident:
            said.speaker_confidence = word.speaker_confidence
    if punctuated:
        said.punctuated_word = word.word
    return said


def plain(word: str) -> str:
    """In lower case, without the punctuation around it.

    >>> plain("“Don't!”"), plain("...")
    ("don't", '...')
    """
    return _EDGES.sub("", word).lower() or word


def transcript(words: Iterable[ListenWord]) -> str:
    return " ".join(word.word if word.punctuated_word is UNSET else word.punctuated_word for word in words)


def confidence(words: Sequence[ListenWord]) -> float:
    return round(sum(word.confidence for word in words) / len(words), 4) if words else 0.0


def _paragraphs(segments: Iterable[Segment], numbers: Mapping[str, int]) -> Paragraphs:
    """A paragraph for each segment: it has one speaker, and ends at a pause or with a sentence."""
    made, texts = [], []
    for segment in segments:
        sentences = [
            ListenSentence(" ".join(word.word for word in part), part[0].start, part[-1].end)
            for part in _sentences(segment.words)
        ]
        paragraph = Paragraph(sentences=sentences, num_words=len(segment.words), start=segment.start, end=segment.end)
        text = " ".join(sentence.text for sentence in sentences)
        if segment.speaker in numbers:
            paragraph.speaker = numbers[segment.speaker]
            text = f"Speaker {paragraph.speaker}: {text}"
        made.append(paragraph)
        texts.append(text)
    return Paragraphs("\n" + "\n\n".join(texts), made)


def _sentences(words: Sequence[Word]) -> list[list[Word]]:
    found: list[list[Word]] = [[]]
    for word in words:
        found[-1].append(word)
        if ends_sentence(word.word):
            found.append([])
    return [sentence for sentence in found if sentence]


def _utterances(words: Sequence[ListenWord], split: float) -> list[list[ListenWord]]:
    found: list[list[ListenWord]] = []
    for word in words:
        last = found[-1][-1] if found else None
        if last and word.speaker == last.speaker and word.start - last.end < split:
            found[-1].append(word)
        else:
            found.append([word])
    return found


def _utterance(words: list[ListenWord], channel: int) -> Utterance:
    return Utterance(
        start=words[0].start,
        end=words[-1].end,
        confidence=confidence(words),
        channel=channel,
        transcript=transcript(words),
        words=words,
        id=str(uuid.uuid4()),
        speaker=words[0].speaker,
    )
