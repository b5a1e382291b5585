"""Which words of a growing stretch of speech are final: those in which two successive hypotheses agree. Pure.

LocalAgreement-2: Macháček et al. 2023, https://arxiv.org/abs/2307.14743
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.messages import Word

_NO_TIME = 0.05  # seconds: what is spoken takes longer


@dataclass(slots=True)
class Agreement:
    final: list[Word] = field(default_factory=list)  # since the beginning of what is decoded
    hypothesis: list[Word] = field(default_factory=list)  # the last one, after the final words

    def add(self, words: Sequence[Word]) -> list[Word]:
        """A hypothesis of all that is decoded; the words that it makes final."""
        rest = self._rest(words)
        agreed = 0
        while agreed < min(len(rest), len(self.hypothesis)) and _same(rest[agreed], self.hypothesis[agreed]):
            agreed += 1
        made, self.hypothesis = rest[:agreed], rest[agreed:]
        self.final += made
        return made

    def finish(self, words: Sequence[Word]) -> list[Word]:
        """The last hypothesis: all of its words are final."""
        made = self._rest(words)
        self.final, self.hypothesis = [], []
        return made

    def trim(self) -> None:
        """What is decoded begins anew after the final words."""
        self.final = []

    def _rest(self, words: Sequence[Word]) -> list[Word]:
        """The words after those that are final: by their texts, or, where those differ now, by their times."""
        count = len(self.final)
        if len(words) >= count and all(map(_same, self.final, words)):
            rest = list(words[count:])
        else:
            last = self.final[-1]
            rest = [word for word in words if (word.start + word.end) / 2 > last.end]
            if rest and _same(rest[0], last) and rest[0].start < last.end:
                del rest[0]
        return rest


def _same(word: Word, other: Word) -> bool:
    return plain(word.word) == plain(other.word)


def plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold())) or text.strip()


def without_echo(words: Sequence[Word]) -> Sequence[Word]:
    """Without words at the end that the model says again once the speech has ended: the alignment has no time for them.

    With 20 ms for each of " and", " so", " my", " fellow" after "And so my fellow Americans." these four.
    """
    past = len(words)
    while past and words[past - 1].end - words[past - 1].start < _NO_TIME:
        past -= 1
    before = {plain(word.word) for word in words[:past]}
    return words[:past] if all(plain(word.word) in before for word in words[past:]) else words
