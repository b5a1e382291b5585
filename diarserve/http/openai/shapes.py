"""A finished document as OpenAI's transcription endpoint would answer it. Pure functions.

The shapes are those of openai.types.audio: Transcription, TranscriptionVerbose and TranscriptionDiarized, and the
events of a stream. `warnings` is ours; OpenAI's clients pass over it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator, Sequence
from itertools import count, product
from string import ascii_uppercase
from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

from diarserve.transcript.document import UNKNOWN, Document, Seconds, Segment, Word

Granularity = Literal["word", "segment"]
Task = Literal["transcribe", "translate"]

_SEGMENTS: tuple[Granularity, ...] = ("segment",)
_LEAST = 1e-6  # a word's probability below which its logarithm says no more


class Usage(Struct, frozen=True):
    type: Literal["duration"]
    seconds: int  # of audio, rounded up as OpenAI does


class Transcription(Struct, kw_only=True):
    text: str
    usage: Usage
    warnings: Sequence[str] | UnsetType = UNSET


class VerboseSegment(Struct, kw_only=True):
    """OpenAI's type demands fields that belong to Whisper's 30 s windows. Our segments are made of words, joined by
    speaker, so what is known is derived and what is not is left empty."""

    id: int
    seek: int = 0  # segments do not keep the window that they came from
    start: Seconds
    end: Seconds
    text: str
    tokens: list[int] = field(default_factory=list)  # not kept
    temperature: float = 0.0  # beam search: nothing is sampled
    avg_logprob: float  # of words, not of tokens
    compression_ratio: float  # as Whisper computes it
    no_speech_prob: float = 0.0  # not kept: windows judged silent left no words
    speaker: str | UnsetType | None = UNSET  # where a client asks for it; None for words that are nobody's


class VerboseWord(Struct, gc=False):
    word: str
    start: Seconds
    end: Seconds


class TranscriptionVerbose(Struct, kw_only=True):
    task: Task
    language: str
    duration: Seconds
    text: str
    usage: Usage
    segments: Sequence[VerboseSegment] | UnsetType = UNSET
    words: Sequence[VerboseWord] | UnsetType = UNSET
    warnings: Sequence[str] | UnsetType = UNSET


class DiarizedSegment(Struct, kw_only=True):
    """Also an event of a stream."""

    type: Literal["transcript.text.segment"] = "transcript.text.segment"
    id: str
    start: Seconds
    end: Seconds
    speaker: str
    text: str


class TranscriptionDiarized(Struct, kw_only=True):
    task: Literal["transcribe"] = "transcribe"
    duration: Seconds
    text: str
    segments: Sequence[DiarizedSegment]
    usage: Usage
    warnings: Sequence[str] | UnsetType = UNSET


class TextDelta(Struct, kw_only=True):
    """An event of a stream: text as it is heard."""

    type: Literal["transcript.text.delta"] = "transcript.text.delta"
    delta: str


class TextDone(Struct, kw_only=True):
    """The last event of a stream. Without usage: OpenAI's counts tokens, which are not kept."""

    type: Literal["transcript.text.done"] = "transcript.text.done"
    text: str
    warnings: Sequence[str] | UnsetType = UNSET


def json(document: Document) -> Transcription:
    return Transcription(text=document.text, usage=usage(document))


def verbose_json(
    document: Document,
    granularities: Collection[Granularity] = _SEGMENTS,
    task: Task = "transcribe",
    *,
    speakers: bool = False,
) -> TranscriptionVerbose:
    answer = TranscriptionVerbose(
        task=task,
        language=language_name(document.language),
        duration=document.duration,
        text=document.text,
        usage=usage(document),
    )
    if "segment" in granularities:
        answer.segments = [verbose_segment(segment) for segment in document.segments]
        if speakers:
            for shown, segment in zip(answer.segments, document.segments, strict=True):
                shown.speaker = None if segment.speaker == UNKNOWN else segment.speaker
    if "word" in granularities:
        answer.words = [
            VerboseWord(word.word, word.start, word.end) for segment in document.segments for word in segment.words
        ]
    return answer


def diarized_json(document: Document) -> TranscriptionDiarized:
    labels = speaker_labels(document)
    return TranscriptionDiarized(
        duration=document.duration,
        text=document.text,
        segments=[
            diarized_segment(segment, labels[segment.speaker], number)
            for number, segment in enumerate(document.segments, 1)
        ],
        usage=usage(document),
    )


def diarized_segment(segment: Segment, label: str, number: int) -> DiarizedSegment:
    return DiarizedSegment(
        id=f"seg_{number:03}", start=segment.start, end=segment.end, speaker=label, text=segment.text
    )


def speaker_labels(document: Document) -> dict[str, str]:
    """Each speaker's name or letter, letters by who speaks first. Words that are nobody's stay UNKNOWN: a letter
    would say that one person spoke them."""
    names = [match.name for match in document.speaker_matches or () if match.name]
    labels = {UNKNOWN: UNKNOWN, **{name: name for name in names}}
    free = (letter for letter in letters() if letter not in names)
    for segment in document.segments:
        if segment.speaker not in labels:
            labels[segment.speaker] = next(free)
    return labels


def usage(document: Document) -> Usage:
    return Usage("duration", math.ceil(document.duration))


def language_name(code: str) -> str:
    """The English name in lower case; a code without one as it is."""
    return _LANGUAGES.get(code, code)


def verbose_segment(segment: Segment) -> VerboseSegment:
    raw = segment.text.encode()
    return VerboseSegment(
        id=segment.id,
        start=segment.start,
        end=segment.end,
        text=segment.text,
        avg_logprob=_mean_logprob(segment.words),
        compression_ratio=round(len(raw) / len(zlib.compress(raw)), 4),
    )


def _mean_logprob(words: Collection[Word]) -> float:
    if not words:
        return 0.0
    return round(sum(math.log(max(word.probability, _LEAST)) for word in words) / len(words), 4)


def letters() -> Iterator[str]:
    """A … Z, AA, AB, …"""
    for length in count(1):
        yield from map("".join, product(ascii_uppercase, repeat=length))


# Every language that Whisper knows: ISO 639-1 codes (639-3 where there is none) and their English names.
_NAMES = """
    af afrikaans, am amharic, ar arabic, as assamese, az azerbaijani, ba bashkir, be belarusian, bg bulgarian,
    bn bengali, bo tibetan, br breton, bs bosnian, ca catalan, cs czech, cy welsh, da danish, de german, el greek,
    en english, es spanish, et estonian, eu basque, fa persian, fi finnish, fo faroese, fr french, gl galician,
    gu gujarati, ha hausa, haw hawaiian, he hebrew, hi hindi, hr croatian, ht haitian creole, hu hungarian,
    hy armenian, id indonesian, is icelandic, it italian, ja japanese, jw javanese, ka georgian, kk kazakh, km khmer,
    kn kannada, ko korean, la latin, lb luxembourgish, ln lingala, lo lao, lt lithuanian, lv latvian, mg malagasy,
    mi maori, mk macedonian, ml malayalam, mn mongolian, mr marathi, ms malay, mt maltese, my burmese, ne nepali,
    nl dutch, nn nynorsk, no norwegian, oc occitan, pa punjabi, pl polish, ps pashto, pt portuguese, ro romanian,
    ru russian, sa sanskrit, sd sindhi, si sinhala, sk slovak, sl slovenian, sn shona, so somali, sq albanian,
    sr serbian, su sundanese, sv swedish, sw swahili, ta tamil, te telugu, tg tajik, th thai, tk turkmen, tl tagalog,
    tr turkish, tt tatar, uk ukrainian, ur urdu, uz uzbek, vi vietnamese, yi yiddish, yo yoruba, yue cantonese,
    zh chinese
"""
_LANGUAGES = dict(pair.split(maxsplit=1) for pair in _NAMES.strip().split(","))
