"""The words of a transcript that is still being made, for clients that watch."""

from __future__ import annotations

from collections.abc import Sequence

from workers.messages import Word


class PartialTranscript:
    """Grows only at its end, also where the transcription starts again because its worker died: every word is in it
    once, and a word that clients have been shown stays.

    `chunks` holds the words of one stretch of speech each, none of them empty, in the order of the recording.
    """

    def __init__(self) -> None:
        self.chunks: list[tuple[Word, ...]] = []
        self._to_repeat = 0  # chunks of earlier attempts, which the present attempt is expected to bring again
        self._repeated = 0  # of those, what it has brought
        self._interim: Sequence[Word] = ()  # of the next chunk, the beginning that is there already

    def restart(self) -> None:
        """The transcription starts again at the beginning of the recording."""
        self._to_repeat = len(self.chunks)
        self._repeated = 0
        self._interim = ()

    def add_interim(self, words: Sequence[Word]) -> None:
        """The first sentences of the present attempt's next chunk, before the rest of it is known."""
        self._add(tuple(words))
        self._interim = words

    def add(self, words: Sequence[Word]) -> None:
        """The present attempt's next chunk."""
        known = len(self._interim)
        if [word.word for word in words[:known]] != [word.word for word in self._interim]:
            words = [word for word in words if word.start >= self._interim[-1].end]  # rewritten: those after it are new
        else:
            words = words[known:]
        self._interim = ()
        self._add(tuple(words))

    def _add(self, words: tuple[Word, ...]) -> None:
        """Skipped as long as it repeats what is there; where a repetition differs (a temperature above 0 draws words by
        chance), only words that start after all that is there are new."""
        if self._repeated < self._to_repeat:
            if words == self.chunks[self._repeated]:
                self._repeated += 1
                return
            words = tuple(word for word in words if word.start >= self.chunks[-1][-1].end)
        if words:
            self.chunks.append(words)
