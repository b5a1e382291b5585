"""Texts that a model wrote: whether one is a loop, and which of its sentences are whole. Pure functions."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from faster_whisper.tokenizer import Tokenizer

from workers.words import ends_sentence

REPETITIVE = 2.4  # Whisper's own threshold for loops
END, REPETITIVE_END = 100, 3.0  # the last characters of a text
UNSURE_TOKENS = 8


def sentences(tokens: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """The whole sentences of a text that was cut short; none where it loops. The last tokens do not count: the beam
    search knew nothing of what follows them."""
    if repetitive(tokenizer.decode(tokens)):
        return []
    for past in range(len(tokens) - UNSURE_TOKENS, 0, -1):
        following = tokenizer.decode(tokens[past : past + 1])
        if following[:1].isspace() and ends_sentence(tokenizer.decode(tokens[:past])):
            return list(tokens[:past])
    return []


def repetitive(text: str) -> bool:
    """Whether the text, or its end, is a loop: then it compresses well. A sentence that is said twice is none."""
    return _ratio(text[-END:]) > REPETITIVE_END or (len(text) > 2 * END and _ratio(text) > REPETITIVE)


def _ratio(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data))
