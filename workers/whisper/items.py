"""Work items of the recognizer, and what comes of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from msgspec import structs

from workers.engine import WorkItem
from workers.messages import SAMPLE_RATE, Word
from workers.whisper import gaps
from workers.whisper.decoding import Decoding
from workers.whisper.recognizer import WINDOW_SECONDS, window
from workers.whisper.vad import Chunk
from workers.words import spaced


def items(name: str, chunks: Sequence[tuple[Chunk, Decoding]], *, partial: bool = False) -> list[WorkItem]:
    """`partial`: for the first pass; what a second one adds belongs in the middle of what was shown already."""
    return [
        WorkItem(("asr", name, decoding), chunk, partial=partial, size=window(chunk.seconds) / WINDOW_SECONDS)
        for chunk, decoding in chunks
    ]


def placed(chunk: Chunk, words: Sequence[Word]) -> list[Word]:
    """The words of a chunk as they may be shown."""
    placed = spaced(gaps.without_hallucinations(words), *(sample / SAMPLE_RATE for sample in chunk.bounds))
    return [structs.replace(word, channel=chunk.channel) for word in placed] if chunk.channel else placed


def model_of(key: Hashable) -> str | None:
    """The model that a step uses; None for the detection of speech, which uses none."""
    return str(key[1]) if isinstance(key, tuple) and len(key) > 1 else None
