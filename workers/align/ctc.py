"""Where known words are in a recording, by the probabilities of letters that an acoustic model gives for each frame.

CTC forced alignment (https://docs.pytorch.org/audio/stable/tutorials/forced_alignment_tutorial.html), by whisperX's
trellis. What is not of the model's alphabet but spoken, as in "$5.30", stands for any letter.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from msgspec.structs import replace
from torch import Tensor

from workers.messages import Word

MAX_SECONDS = 30.0
PAUSE = 2.0  # seconds of silence that always part two segments
MARGINS = (0.1, 0.4)  # seconds: how much of the pause beside a segment is searched too, at least and at most
LINGER = 10  # frames of 20 ms: a letter lasts no longer
WILDCARD = -1
NEVER = -1e9  # a log-probability
SPOKEN = "%&@#°§"  # punctuation by Unicode's categories, but read out

Times = tuple[float, float]  # start, end


@dataclass(frozen=True, slots=True)
class Segment:
    """Words [first, past) that are aligned together, and the seconds of the recording in which they are looked for."""

    first: int
    past: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Alphabet:
    letters: Mapping[str, int]  # lower case; neither blank nor separator
    blank: int
    separator: int | None

    def spell(self, word: str) -> list[int]:
        """What is spoken of a word: nothing of "…", a wildcard for what the model has no letter for."""
        spelled = []
        for char in word.lower().replace("’", "'"):
            letter = self.letters.get(char, self.letters.get(unicodedata.normalize("NFKD", char)[0]))
            if letter is not None:
                spelled.append(letter)
            elif char.isalnum() or char in SPOKEN or unicodedata.category(char) in ("Sc", "Sm"):
                spelled.append(WILDCARD)
        return spelled


def alphabet_of(dictionary: Mapping[str, int]) -> Alphabet:
    """From whisperX's dictionary. A blank that has no name of its own is letter 0, which torchaudio writes "-"."""
    blank = next((code for name, code in dictionary.items() if name in ("[pad]", "<pad>")), 0)
    letters = {name: code for name, code in dictionary.items() if len(name) == 1 and name != "|" and code != blank}
    return Alphabet(letters, blank, dictionary.get("|"))


def segments(words: Sequence[Word], duration: float) -> list[Segment]:
    """Cut at every long pause, and what is longer than an acoustic model likes at the longest pause of what fits."""
    gaps = [0.0, *(later.start - word.end for word, later in pairwise(words))]
    found = []
    first = 0
    while first < len(words):
        past = first + 1
        while past < len(words) and gaps[past] < PAUSE and words[past].end - words[first].start <= MAX_SECONDS:
            past += 1
        if past < len(words) and gaps[past] < PAUSE:
            middle = max(first + 1, (first + past) // 2)
            past = max(range(middle, past + 1), key=gaps.__getitem__)
        start = words[first].start - _margin(gaps[first] if first else MAX_SECONDS)
        end = max(word.end for word in words[first:past])
        end += _margin(gaps[past] if past < len(words) else MAX_SECONDS)
        start = min(max(0.0, start), duration)
        found.append(Segment(first, past, start, max(start, min(end, duration, start + MAX_SECONDS + 1))))
        first = past
    return found


def _margin(gap: float) -> float:
    least, most = MARGINS
    return min(max(least, gap / 2), most)


def find_words(emission: Tensor, words: Sequence[str], alphabet: Alphabet) -> list[tuple[int, int] | None]:
    """First frame and past-the-last one per word; None where nothing of it is spoken, or where nothing fits.

    The emission is (frames, letters) of log-probabilities.
    """
    from whisperx.alignment import backtrack, get_trellis

    tokens, owners = _tokens(words, alphabet)
    found: list[tuple[int, int] | None] = [None] * len(words)
    if not tokens or not alphabet.letters or len(tokens) > len(emission):
        return found
    # Two letters more, any and the end, and a frame more that is the end: else the trellis, which is free to end
    # early, would rather do so than sit through noise.
    frames, any_letter = emission.shape
    anything = emission[:, list(alphabet.letters.values())].amax(dim=1)
    emission = F.pad(emission, (0, 2, 0, 1), value=NEVER)
    emission[:frames, any_letter] = anything
    emission[frames, any_letter + 1] = 0.0
    wanted = torch.tensor([any_letter if token == WILDCARD else token for token in tokens] + [any_letter + 1])
    trellis = get_trellis(emission, wanted, alphabet.blank)
    token = since = -1
    for point in backtrack(trellis, emission, wanted, alphabet.blank) or ():
        if point.token_index != token:
            token, since = point.token_index, point.time_index
        owner = owners[token] if token < len(tokens) else None
        if owner is not None and point.time_index < since + LINGER:
            first, _ = found[owner] or (point.time_index, 0)
            found[owner] = first, point.time_index + 1
    return found


def _tokens(words: Sequence[str], alphabet: Alphabet) -> tuple[list[int], list[int | None]]:
    """The letters of the words, and the word of each letter. A separator, behind each word that a space follows, is
    of no word."""
    tokens: list[int] = []
    owners: list[int | None] = []
    for number, word in enumerate(words):
        spelled = alphabet.spell(word)
        if spelled and tokens and word[0].isspace() and alphabet.separator is not None:
            tokens.append(alphabet.separator)
            owners.append(None)
        tokens += spelled
        owners += [number] * len(spelled)
    if tokens and alphabet.separator is not None:
        tokens.append(alphabet.separator)
        owners.append(None)
    return tokens, owners


def timed(words: Sequence[Word], found: Sequence[Times | None], duration: float) -> tuple[Word, ...]:
    """The words with the times that were found. Others keep theirs as far as their neighbours let them."""
    limits = []  # where the next word begins that was found
    limit = duration
    for times in reversed(found):
        limits.append(limit)
        limit = times[0] if times else limit
    result = []
    before = after = 0.0  # start of the word before, end of the last one that was found
    for word, times, limit in zip(words, found, reversed(limits), strict=True):
        if times:
            start, end = times
            after = end
        else:
            start = min(max(word.start, after), limit)
            end = min(word.end, limit)
        before = min(max(before, round(start, 3)), duration)
        result.append(replace(word, start=before, end=min(max(before, round(end, 3)), duration)))
    return tuple(result)
