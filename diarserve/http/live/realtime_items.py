"""What a session tells, as OpenAI's Realtime has it: utterances are items of a conversation. Pure, but for ids.

Text is only ever added to an item, by deltas; who said it comes when the item is completed, a `segment` for each
speaker, as far as is known then.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from msgspec.structs import replace

from diarserve.core.errors import ServiceError
from diarserve.http.openai import errors
from diarserve.http.openai.shapes import letters
from diarserve.live.events import Broken, Correction, Ended, Event, Final, SpeechStarted, UtteranceEnd
from diarserve.transcript.document import UNKNOWN, Word

Message = dict[str, Any]

_BUFFER = "input_audio_buffer"
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


def message(type: str, **fields: Any) -> Message:
    return {"type": type, "event_id": f"event_{uuid.uuid4().hex[:21]}", **fields}


def problem(error: ServiceError, event_id: object = None) -> Message:
    """event_id: of the client's message that was wrong."""
    detail = dict(errors.body(error)["error"])
    return message("error", error={**detail, "event_id": event_id if isinstance(event_id, str) else None})


@dataclass(slots=True)
class Item:
    id: str = field(default_factory=lambda: f"item_{uuid.uuid4().hex[:21]}")
    words: dict[int, Word] = field(default_factory=dict)  # by their number in the session
    start: float | None = None  # seconds
    committed: bool = False  # the client was told
    cleared: bool = False  # the client wants nothing of it


class Items:
    """manual: whether the client ends the items, not silence."""

    def __init__(self) -> None:
        self.manual = False
        self._current = Item()
        self._awaited: deque[Item] = deque()  # that the client has ended, until all of them is final
        self._last: str | None = None  # the id of the last item that was committed
        self._letters: dict[str, str] = {UNKNOWN: UNKNOWN}
        self._alphabet = letters()

    def commit(self) -> Iterator[Message]:
        """The client ends the current item; what was said is told when it is final."""
        yield self._committed(self._current)
        self._awaited.append(self._current)
        self._current = Item()

    def clear(self) -> None:
        """The client wants nothing of the current item."""
        self._current.cleared = True
        self._awaited.append(self._current)
        self._current = Item()

    def tell(self, event: Event) -> Iterator[Message]:
        match event:
            case SpeechStarted(time):
                yield from self._begin(time)
            case Final(first=first, words=words):
                yield from self._add(first, words)
            case Correction():
                self._correct(event)
            case UtteranceEnd():
                yield from self._end(event)
            case Ended():
                while self._awaited:
                    yield from self._complete(self._awaited.popleft())
            case Broken(error):
                yield from self._fail(error)

    @property
    def _open(self) -> Item:
        """The item that words which become final belong to."""
        return self._awaited[0] if self._awaited else self._current

    def _begin(self, time: float) -> Iterator[Message]:
        item = self._open
        if item.start is None:
            item.start = time
            if not self.manual:
                yield message(f"{_BUFFER}.speech_started", item_id=item.id, audio_start_ms=round(1000 * time))

    def _add(self, first: int, words: Iterable[Word]) -> Iterator[Message]:
        item = self._open
        space = " " if item.words else ""
        item.words.update(enumerate(words, first))
        if not item.cleared:
            delta = space + " ".join(word.word for word in words)
            yield message(f"{_TRANSCRIPTION}.delta", item_id=item.id, content_index=0, delta=delta)

    def _correct(self, event: Correction) -> None:
        """Of items that are completed, nothing can be said any more."""
        for item in (*self._awaited, self._current):
            for number in range(event.first, event.past):
                if number in item.words:
                    item.words[number] = replace(item.words[number], speaker=event.speaker)

    def _end(self, event: UtteranceEnd) -> Iterator[Message]:
        if event.finalized and self._awaited:
            yield from self._complete(self._awaited.popleft())
        elif not self.manual and not self._awaited and self._current.words:
            item, self._current = self._current, Item()
            yield message(f"{_BUFFER}.speech_stopped", item_id=item.id, audio_end_ms=round(1000 * event.time))
            yield self._committed(item)
            yield from self._complete(item)

    def _committed(self, item: Item) -> Message:
        item.committed = True
        previous, self._last = self._last, item.id
        return message(f"{_BUFFER}.committed", item_id=item.id, previous_item_id=previous)

    def _complete(self, item: Item) -> Iterator[Message]:
        if item.cleared:
            return
        words = [item.words[number] for number in sorted(item.words)]
        for number, (speaker, said) in enumerate(groupby(words, lambda word: word.speaker)):
            part = list(said)
            yield message(
                f"{_TRANSCRIPTION}.segment",
                id=f"{item.id}_seg_{number:03}",
                item_id=item.id,
                content_index=0,
                start=part[0].start,
                end=part[-1].end,
                text=" ".join(word.word for word in part),
                speaker=self._letter(speaker),
            )
        yield message(
            f"{_TRANSCRIPTION}.completed",
            item_id=item.id,
            content_index=0,
            transcript=" ".join(word.word for word in words),
            usage={"type": "duration", "seconds": _seconds(item, words)},
        )

    def _fail(self, error: ServiceError) -> Iterator[Message]:
        for item in (*self._awaited, self._current):
            if item.committed or (item.words and not item.cleared):
                detail = dict(errors.body(error)["error"])
                yield message(f"{_TRANSCRIPTION}.failed", item_id=item.id, content_index=0, error=detail)
        yield problem(error)

    def _letter(self, speaker: str) -> str:
        """A, B, ... by who speaks first, as in `diarized_json`."""
        if speaker not in self._letters:
            self._letters[speaker] = next(self._alphabet)
        return self._letters[speaker]


def _seconds(item: Item, words: list[Word]) -> int:
    """From where it begins to its last word, rounded up as OpenAI does."""
    if not words:
        return 0
    return math.ceil(words[-1].end - (words[0].start if item.start is None else min(item.start, words[0].start)))
