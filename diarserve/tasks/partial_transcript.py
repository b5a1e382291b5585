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

    def restart(self) -> None:
        """The transcription starts again at the beginning of the recording."""
        self._to_repeat = len(self.chunks)
        self._repeated = 0

    def add(self, words: Sequence[Word]) -> None:
        """The present attempt's next chunk. Skipped as long as it repeats what is there; where a repetition differs (a
        temperature above 0 draws words by chance), only words that start after all that is there are new."""
        words = tuple(words)
        if self._repeated < self._to_repeat:
            if words == self.chunks[self._repeated]:
                self._repeated += 1
                return
            words = tuple(word for word in words if word.start >= self.chunks[-1][-1].end)
        if words:
            self.chunks.append(words)
