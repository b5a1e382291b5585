"""Which language a recording is in, by its first half minute of speech."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from msgspec.structs import replace

from workers.engine import WorkItem
from workers.media.samples import load
from workers.messages import SAMPLE_RATE, AudioRef, Spoken
from workers.whisper.languages import most_likely
from workers.whisper.vad import CHUNK_SECONDS, Chunk, chunks_of, pieces_of

LOOKED_AT = 300  # seconds in which speech is looked for: films begin with music

_CHUNK = int(CHUNK_SECONDS * SAMPLE_RATE)


def steps(audio: AudioRef, model: str, *, multilingual: bool) -> Generator[list[WorkItem], list[Any], Spoken]:
    """A part of a job. Where nobody speaks, the odds are of the first half minute as it is."""
    if not multilingual:
        return Spoken("en", 1.0, model)
    samples = load(replace(audio, samples=min(audio.samples, LOOKED_AT * SAMPLE_RATE)))
    parts = pieces_of([samples])
    found = yield [WorkItem(("vad",), piece) for some in parts for piece in some]
    speech = [span for chunk in chunks_of([samples], parts, found) for span in chunk.spans]
    chunk = Chunk(samples, tuple(_first(speech)) or ((0, min(samples.size, _CHUNK)),))
    [odds] = yield [WorkItem(("language", model), chunk)]
    language, probability = most_likely(odds)
    return Spoken(language, round(probability, 4), model)


def _first(spans: list[tuple[int, int]]) -> Generator[tuple[int, int], None, None]:
    """As many as a chunk takes."""
    room = _CHUNK
    for start, end in spans:
        if room <= 0:
            return
        yield start, min(end, start + room)
        room -= end - start
