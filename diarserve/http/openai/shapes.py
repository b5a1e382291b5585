"""A finished document as OpenAI's transcription endpoint would answer it. Pure functions.

The shapes are those of openai.types.audio: Transcription, TranscriptionVerbose and TranscriptionDiarized.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator, Mapping
from itertools import count, product
from string import ascii_uppercase
from typing import Any, Literal

from diarserve.transcript.document import UNKNOWN, Document, Segment, Word

Granularity = Literal["word", "segment"]
Task = Literal["transcribe", "translate"]

_SEGMENTS: tuple[Granularity, ...] = ("segment",)
_LEAST = 1e-6  # a word's probability below which its logarithm says no more


def json(document: Document) -> dict[str, Any]:
    return {"text": document.text, "usage": usage(document)}


def verbose_json(
    document: Document, granularities: Collection[Granularity] = _SEGMENTS, task: Task = "transcribe"
) -> dict[str, Any]:
    answer = {
        "task": task,
        "language": language_name(document.language),
        "duration": document.duration,
        "text": document.text,
        "usage": usage(document),
    }
    if "segment" in granularities:
        answer["segments"] = [_verbose_segment(segment) for segment in document.segments]
    if "word" in granularities:
        answer["words"] = [
            {"word": word.word, "start": word.start, "end": word.end}
            for segment in document.segments
            for word in segment.words
        ]
    return answer


def diarized_json(document: Document, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`names`: what the speakers of the document that are known are called. The others are A, B, …"""
    labels = speaker_labels(document, names or {})
    return {
        "task": "transcribe",
        "duration": document.duration,
        "text": document.text,
        "segments": [
            diarized_segment(segment, labels[segment.speaker], number)
            for number, segment in enumerate(document.segments, 1)
        ],
        "usage": usage(document),
    }


def diarized_segment(segment: Segment, label: str, number: int) -> dict[str, Any]:
    """Also what `stream=true` sends as an event of its own."""
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{number:03}",
        "start": segment.start,
        "end": segment.end,
        "speaker": label,
        "text": segment.text,
    }


def speaker_labels(document: Document, names: Mapping[str, str]) -> dict[str, str]:
    """Each speaker's name or letter, letters by who speaks first. Words that are nobody's stay UNKNOWN: a letter
    would say that one person spoke them."""
    labels = {UNKNOWN: UNKNOWN, **names}
    letters = (letter for letter in _letters() if letter not in names.values())
    for segment in document.segments:
        if segment.speaker not in labels:
            labels[segment.speaker] = next(letters)
    return labels


def usage(document: Document) -> dict[str, Any]:
    """Whole seconds of audio, as OpenAI counts them."""
    return {"type": "duration", "seconds": math.ceil(document.duration)}


def language_name(code: str) -> str:
    """The English name in lower case; a code without one as it is."""
    return _LANGUAGES.get(code, code)


def _verbose_segment(segment: Segment) -> dict[str, Any]:
    # OpenAI's type demands fields that belong to Whisper's 30 s windows. Our segments are made of words, joined by
    # speaker, so what is known is derived and what is not is left empty.
    raw = segment.text.encode()
    return {
        "id": segment.id,
        "seek": 0,  # segments do not keep the window that they came from
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": [],  # not kept
        "temperature": 0.0,  # beam search: nothing is sampled
        "avg_logprob": _mean_logprob(segment.words),  # of words, not of tokens
        "compression_ratio": round(len(raw) / len(zlib.compress(raw)), 4),  # as Whisper computes it
        "no_speech_prob": 0.0,  # not kept: windows judged silent left no words
    }


def _mean_logprob(words: Collection[Word]) -> float:
    if not words:
        return 0.0
    return round(sum(math.log(max(word.probability, _LEAST)) for word in words) / len(words), 4)


def _letters() -> Iterator[str]:
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
