"""Sentences of a transcript that is still being made, for clients that watch. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from diarserve.transcript import merge
from diarserve.transcript.document import Seconds
from workers.messages import Turn, Word
from workers.words import ends_sentence


class Sentence(msgspec.Struct, frozen=True):
    """The words of one speaker up to the end of a sentence. The speaker is provisional: the finished document joins
    words and turns anew, and may give a word beside a change of speaker to the other one."""

    start: Seconds
    end: Seconds
    text: str
    speaker: str | None = None  # None: the diarizer is not done yet


def sentences(words: Sequence[Word], turns: Sequence[Turn] | None) -> list[Sentence]:
    """The words of one stretch of speech; the turns of the whole recording, None until they are known."""
    speakers = [word.speaker for word in merge.label(words, turns)] if turns is not None else [None] * len(words)
    found: list[Sentence] = []
    first = 0
    for past, word in enumerate(words, 1):
        if past == len(words) or speakers[past] != speakers[first] or ends_sentence(word.word):
            text = "".join(part.word for part in words[first:past]).strip()
            found.append(Sentence(words[first].start, word.end, text, speakers[first]))
            first = past
    return found
