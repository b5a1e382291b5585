"""Which words of a growing stretch of speech are final: those in which two successive hypotheses agree. Pure.

LocalAgreement-2: Macháček et al. 2023, https://arxiv.org/abs/2307.14743
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.messages import Word
from workers.words import ends_sentence

PAUSE = 0.5  # seconds without a word, at which a text may be parted as at the end of a sentence
_NO_TIME = 0.05  # seconds: what is spoken takes longer


@dataclass(slots=True)
class Agreement:
    final: list[Word] = field(default_factory=list)  # of what is decoded
    hypothesis: list[Word] = field(default_factory=list)  # the last one, after the final words

    def add(self, words: Sequence[Word], before: float = math.inf, late: float = -math.inf) -> list[Word]:
        """A hypothesis of what follows the final words; those of its words that are final now. None is that ends after
        `before`, in seconds: what is cut off is often taken for another word. All are that end before `late`, agreed
        upon or not: the speech after them is heard by then."""
        agreed = 0
        for word, other in zip(words, self.hypothesis, strict=False):
            if not _same(word, other) or word.end > before:
                break
            agreed += 1
        while agreed < len(words) and words[agreed].end <= late:
            agreed += 1
        made, self.hypothesis = list(words[:agreed]), list(words[agreed:])
        self.final += made
        return made

    def finish(self, words: Sequence[Word]) -> list[Word]:
        """The last hypothesis: all of its words are final."""
        self.final += words
        self.hypothesis = []
        return list(words)

    def forget(self, before: float) -> list[Word]:
        """Final words that begin before that: they are decoded no more."""
        return self._drop(sum(word.start < before for word in self.final))

    def forget_sentences(self, before: float) -> list[Word]:
        """Final words that end before that, up to the last end of a sentence or pause among them; where there is none,
        all of them."""
        words = [*self.final, *self.hypothesis]
        most = sum(word.end <= before for word in self.final)
        for count in range(most, 0, -1):
            pause = words[count].start - words[count - 1].end if count < len(words) else math.inf
            if pause > PAUSE or ends_sentence(words[count - 1].word):
                return self._drop(count)
        return self._drop(most)

    def _drop(self, count: int) -> list[Word]:
        gone, self.final = self.final[:count], self.final[count:]
        return gone


def following(words: Sequence[Word], known: str) -> Sequence[Word]:
    """The words after those that make up the known text, which they begin with."""
    count, length, wanted = 0, 0, len("".join(known.split()))
    while count < len(words) and length < wanted:
        length += len("".join(words[count].word.split()))
        count += 1
    return words[count:]


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
