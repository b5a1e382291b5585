"""How chunks of speech are to be written, and what is written of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from workers.messages import Word
from workers.whisper.languages import Odds


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to write. Chunks with equal ones may share a step."""

    language: str | None  # None: that of each chunk
    task: str = "transcribe"
    beam: int = 5
    temperature: float = 0.0  # above 0: sample instead of searching
    prompt: str | None = field(default=None, repr=False)  # logs are no index for what users say
    hotwords: str | None = field(default=None, repr=False)
    interim: bool = False  # whether to yield the first sentences before the rest is written
    beginning: str | None = field(default=None, repr=False)  # what the text begins with, as is known already


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a chunk. As an iterable it is its words, which clients may watch."""

    words: Sequence[Word]
    language: str | None  # None: the model is not sure, and has written nothing
    odds: Odds | None = None  # None: the language was known

    def __iter__(self) -> Iterator[Word]:
        return iter(self.words)
