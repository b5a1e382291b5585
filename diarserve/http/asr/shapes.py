"""A finished document as whisper-asr-webservice would answer it. Pure functions.

JSON has what its engines openai_whisper (segments, words) and whisperx (speakers, their embeddings) answer. In the
other formats `[SPEAKER_00]: ` stands before what somebody says where speakers were asked for, as whisperx has it.
`warnings` is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict

from diarserve.core.encoding import encode_in_pieces
from diarserve.core.settings import Subtitles
from diarserve.http.asr.options import AsrParameters
from diarserve.http.openai.shapes import VerboseSegment, verbose_segment
from diarserve.transcript.document import UNKNOWN, Document, Seconds, Segment, Word
from diarserve.transcript.formats import subrip, webvtt
from diarserve.transcript.subtitles import cues, milliseconds


class AsrWord(Struct, gc=False):
    word: str
    start: Seconds
    end: Seconds
    probability: float
    speaker: str | UnsetType = UNSET


class AsrSegment(VerboseSegment, kw_only=True):
    words: Sequence[AsrWord] | UnsetType = UNSET


class AsrAnswer(Struct, kw_only=True):
    text: str
    language: str
    segments: Sequence[AsrSegment]
    speaker_embeddings: Mapping[str, Sequence[float]] | UnsetType = UNSET
    warnings: Sequence[str] | UnsetType = UNSET


class DetectedLanguage(Struct):
    detected_language: str  # its English name, in lower case
    language_code: str
    confidence: float  # from 0 to 1


def answer(document: Document, asked: AsrParameters, style: Subtitles) -> bytes:
    match asked.output:
        case "json":
            return encode_in_pieces(_json(document, asked))
        case "srt":
            return subrip(cues(document, style, _prefix(asked))).encode()
        case "vtt":
            shown = cues(document, style, _prefix(asked))
            return webvtt((cue, escape(cue.text, quote=False)) for cue in shown).encode()
        case "tsv":
            return _tsv(document).encode()
    prefix = _prefix(asked)
    return "".join(f"{prefix(segment.speaker)}{segment.text}\n" for segment in document.segments).encode()


def _prefix(asked: AsrParameters) -> Callable[[str], str]:
    return _bracketed if asked.says_speakers else lambda speaker: ""


def _bracketed(speaker: str) -> str:
    return "" if speaker == UNKNOWN else f"[{speaker}]: "


def _tsv(document: Document) -> str:
    return "start\tend\ttext\n" + "".join(
        f"{milliseconds(segment.start)}\t{milliseconds(segment.end)}\t{' '.join(segment.text.split())}\n"
        for segment in document.segments
    )


def _json(document: Document, asked: AsrParameters) -> AsrAnswer:
    made = AsrAnswer(
        text=document.text,
        language=document.language,
        segments=[_segment(segment, asked) for segment in document.segments],
        warnings=document.warnings or UNSET,
    )
    if document.speaker_embeddings:
        made.speaker_embeddings = {one.speaker: one.embedding for one in document.speaker_embeddings}
    return made


def _segment(segment: Segment, asked: AsrParameters) -> AsrSegment:
    made = AsrSegment(**asdict(verbose_segment(segment)))
    if asked.says_speakers:
        made.speaker = _known(segment.speaker)
    if asked.word_timestamps:
        made.words = [_word(word, asked) for word in segment.words]
    return made


def _word(word: Word, asked: AsrParameters) -> AsrWord:
    speaker = _known(word.speaker) if asked.says_speakers else UNSET
    return AsrWord(word.word, word.start, word.end, word.probability, speaker)


def _known(speaker: str) -> str | UnsetType:
    return UNSET if speaker == UNKNOWN else speaker
