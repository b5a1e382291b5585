"""What may be asked of a transcription. The server checks the values: a wrong one raises InvalidRequest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Literal, TypedDict

# A path, the recording's bytes, or a file that is open for reading bytes.
Recording = str | os.PathLike[str] | bytes | BinaryIO
Format = Literal["json", "text", "srt", "vtt", "rttm", "ctm", "stm", "tsv"]


class Options(TypedDict, total=False):
    language: str  # as a code such as en; default: detected
    whisper_model: str  # one of those that the server's /api/v1/parallel/features lists
    num_speakers: int  # how many people speak, if it is known
    min_speakers: int
    max_speakers: int
    diarizer: str  # auto, sortformer, clustering, embedded
    channels: Literal["mix", "separate"]  # separate: one speaker in each
    source_separation: bool  # free the voices of music and noise first
    enhanced_alignment: bool  # align words by forced alignment
    known_speakers: Mapping[str, Recording]  # by name, 2 to 10 s of each voice; up to four
    known_voices: Sequence[str] | Literal[True]  # stored voices, by name or id; True: all of this key's
    speaker_embeddings: bool  # return the voice of each speaker as a vector
    prompt: str  # text as if it came before: for its style and spelling
    hotwords: str  # words to expect
    beam_size: int
    temperature: float  # above 0, words are drawn by chance
    priority: Literal["high", "normal", "low"]
    callback_url: str  # asked by POST when the task has ended


class LiveOptions(TypedDict, total=False):
    encoding: Literal["pcm_s16le", "float32", "mulaw", "alaw"]  # of the samples; default: pcm_s16le
    sample_rate: int  # Hz; default: 16000
    channels: int  # interleaved; they are mixed into one
    language: str
    whisper_model: str
    prompt: str
    hotwords: str
    interim: bool  # whether interim results are sent; default: True
    endpointing: float  # seconds of silence that end an utterance
    num_speakers: int
    min_speakers: int
    max_speakers: int
    keep: bool  # whether the transcript is a task that can be asked for later; default: True


def fields(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The form fields or query parameters that say so, but for known_speakers, which are files. None is left out.

    >>> list(fields({"num_speakers": 2, "source_separation": True, "known_voices": ["Ann", "Bo"], "language": None}))
    [('num_speakers', '2'), ('source_separation', 'true'), ('known_voices', 'Ann'), ('known_voices', 'Bo')]
    """
    for name, value in options.items():
        if value is None or name == "known_speakers":
            continue
        for each in value if isinstance(value, (list, tuple)) else (value,):
            yield name, str(each).lower() if isinstance(each, bool) else str(each)
