"""Documents for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence

from diarserve.transcript.document import Document, Models, Performance, Segment, Word
from diarserve.transcript.join import join
from workers import messages


def word(text: str, start: float, speaker: str = "SPEAKER_00") -> Word:
    """0.4 s long."""
    return Word(text, start, round(start + 0.4, 3), 0.9, speaker, 0.8, overlap=False)


def joined_document(
    said: Sequence[messages.Word], turns: Sequence[messages.Turn], duration: float, filename: str = "a.wav"
) -> Document:
    """What the pipeline would make of these words and turns."""
    joined = join(said, turns)
    return Document(
        task_id="0",
        status="completed",
        filename=filename,
        language="en",
        duration=duration,
        text=joined.text,
        speakers=joined.speakers,
        segments=joined.segments,
        turns=joined.turns,
        models=Models("whisper", "diarizer", "cross-attention", None),
        degraded=False,
        performance=Performance(True, *[0.0] * 10),
    )


def document(*said: tuple[str, str]) -> Document:
    """What was said, one after the other and a second between them, and by whom."""
    segments: list[Segment] = []
    now = 0.0
    for number, (text, speaker) in enumerate(said):
        words = tuple(word(part, now + index / 2, speaker) for index, part in enumerate(text.split()))
        segments.append(Segment(number, now, words[-1].end, speaker, text, words))
        now = words[-1].end + 1
    return Document(
        task_id="0" * 32,
        status="completed",
        filename="a.wav",
        language="en",
        duration=now,
        text=" ".join(text for text, _ in said),
        speakers=tuple(sorted({speaker for _, speaker in said})),
        segments=tuple(segments),
        turns=(),
        models=Models("tiny.en", "embedded", "cross-attention", None),
        degraded=False,
        performance=Performance(True, *([0.0] * 10)),
    )
