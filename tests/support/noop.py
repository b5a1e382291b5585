"""Engines that do nothing, for measuring what is around the models. One step a job, as the least a real one takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.engine import Engine, JobSteps, WorkItem
from workers.messages import (
    AudioRef,
    Decode,
    DetectLanguage,
    Diarization,
    Diarize,
    Request,
    Spoken,
    Transcribe,
    Transcript,
    Turn,
    Word,
)

WORDS_PER_SECOND = 2.5  # as people speak, so that joining and rendering cost what they do
TURN_SECONDS = 5.0


class Nothing(Engine):
    def describe(self) -> Mapping[str, Any]:
        return {"model": "nothing", "device": "cpu"}

    def run(self, items: Sequence[WorkItem]) -> Sequence[Any]:
        return [None] * len(items)


class Decoder(Nothing):
    """The length of 16-bit mono 16 kHz samples after a 44-byte header; they stay where they are."""

    def job(self, request: Request) -> JobSteps:
        assert isinstance(request, Decode)
        yield [WorkItem("nothing", None)]
        return AudioRef(request.source, (Path(request.source).stat().st_size - 44) // 2, 44)


class Whisper(Nothing):
    def job(self, request: Request) -> JobSteps:
        yield [WorkItem("nothing", None)]
        if isinstance(request, DetectLanguage):
            return Spoken("en", 1.0, "nothing")
        assert isinstance(request, Transcribe)
        gap = 1 / WORDS_PER_SECOND
        count = int(request.audio.duration * WORDS_PER_SECOND)
        return Transcript(tuple(Word(f" w{n}", n * gap, (n + 0.9) * gap, 1.0) for n in range(count)), "en", "nothing")


class Diarizer(Nothing):
    def job(self, request: Request) -> JobSteps:
        assert isinstance(request, Diarize)
        yield [WorkItem("nothing", None)]
        end = request.audio.duration
        starts = [n * TURN_SECONDS for n in range(int(end / TURN_SECONDS) + 1)]
        turns = (Turn(t, min(t + TURN_SECONDS, end), f"SPEAKER_0{n % 2}") for n, t in enumerate(starts))
        return Diarization(tuple(turns), "nothing")
