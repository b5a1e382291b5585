"""What is heard of a live session, as lines to show: pure functions of its events, and what they have told so far."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from diarserve.client import Correction, Final, Interim, LiveEvent, UtteranceEnd, Word

_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red", "bright_cyan", "bright_yellow")


class Line(NamedTuple):
    """Words of one speaker in a row."""

    speaker: str
    text: str
    start: float  # seconds
    interim: bool = False


class Conversation:
    """
    >>> conversation = Conversation()
    >>> conversation.hear(Final(0, 0, (Word("Hello.", 0.1, 0.5, 0.9, "SPEAKER_00"),)))
    >>> conversation.current()
    [Line(speaker='SPEAKER_00', text='Hello.', start=0.1, interim=False)]
    """

    def __init__(self) -> None:
        self._words: list[Word] = []
        self._speakers: dict[int, str] = {}  # by the word's number, where it was corrected
        self._interim: tuple[Word, ...] = ()
        self._shown = 0  # words whose utterance has ended
        self._order: dict[str, int] = {}

    def hear(self, event: LiveEvent) -> list[Line]:
        """Lines that are done with: their utterance has ended. A correction of such words is a line of its own."""
        match event:
            case Final():
                self._words[event.first :] = event.words
                self._interim = ()
            case Interim():
                self._interim = event.words
            case Correction():
                self._speakers.update(dict.fromkeys(range(event.first, event.past), event.speaker))
                if said := self._words[event.first : min(event.past, self._shown)]:
                    text = " ".join(word.word for word in said)
                    return [Line(event.speaker, f"(it was who said: {text})", said[0].start)]
            case UtteranceEnd():
                return self.finish()
        return []

    def finish(self) -> list[Line]:
        """Lines of the words that are final and not shown."""
        self._interim = ()
        lines = self.current()
        self._shown = len(self._words)
        return lines

    def current(self) -> list[Line]:
        """Lines of the utterance that goes on, and last what is heard and may change."""
        spoken = [
            (self._speakers.get(number, word.speaker), word)
            for number, word in enumerate(self._words[self._shown :], self._shown)
        ]
        lines = list(_lines(spoken))
        if self._interim:
            words = " ".join(word.word for word in self._interim)
            lines.append(Line(self._interim[0].speaker, words, self._interim[0].start, interim=True))
        return lines

    def colour(self, speaker: str) -> str:
        """Each speaker's own, in the order in which they were heard."""
        return _COLOURS[self._order.setdefault(speaker, len(self._order)) % len(_COLOURS)]


def _lines(spoken: list[tuple[str, Word]]) -> Iterator[Line]:
    for speaker, group in groupby(spoken, key=lambda each: each[0]):
        words = [word for _, word in group]
        yield Line(speaker, " ".join(word.word for word in words), words[0].start)
