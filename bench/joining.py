"""Other projects' rules for who said a word, on the same words and turns as ours: written from what they do, to compare
with diarserve.transcript.merge. Turns are sorted by start; every rule takes words and turns and names a speaker a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from workers.messages import Turn, Word

NOBODY = ""  # whom whisperX names where no turn touches a word
_MOST_WORDS = 50  # of a sentence that whisper-diarization looks at
_SENTENCE_ENDS = ".?!"


class NamedWord(NamedTuple):
    word: str
    speaker: str


def whisperx(words: Sequence[Word], turns: Sequence[Turn]) -> list[NamedWord]:
    """assign_word_speakers: whose turns share most time with the word; nobody where none does."""
    named = []
    for word in words:
        shared = Counter[str]()
        for turn in turns:
            shared[turn.speaker] += max(0.0, min(turn.end, word.end) - max(turn.start, word.start))  # type: ignore[assignment]
        [(speaker, seconds)] = shared.most_common(1) or [(NOBODY, 0)]
        named.append(NamedWord(word.word, speaker if seconds > 0 else NOBODY))
    return named


def whisper_diarization(words: Sequence[Word], turns: Sequence[Turn]) -> list[NamedWord]:
    """get_words_speaker_mapping and get_realigned_ws_mapping_with_punctuation: the turn at the word's start, or the
    first one after it; then a sentence of which one speaker has half the words or more is theirs."""
    speakers = []
    at = 0
    for word in words:
        while at < len(turns) - 1 and word.start > turns[at].end:
            at += 1
        speakers.append(turns[at].speaker if turns else NOBODY)
    ends = [word.word.rstrip()[-1:] in _SENTENCE_ENDS for word in words]
    index = 0
    while index < len(words):
        changes = index < len(words) - 1 and speakers[index] != speakers[index + 1]
        if changes and not ends[index]:
            first, last = _sentence(ends, index)
            speaker, count = Counter(speakers[first : last + 1]).most_common(1)[0]
            if last > first and count >= (last + 1 - first) / 2:
                speakers[first : last + 1] = [speaker] * (last + 1 - first)
                index = last
        index += 1
    return [NamedWord(word.word, speaker) for word, speaker in zip(words, speakers, strict=True)]


def _sentence(ends: Sequence[bool], index: int) -> tuple[int, int]:
    """First and last word of the sentence around a word; only that word where the sentence is too long."""
    first = index
    while first > 0 and index - first < _MOST_WORDS and not ends[first - 1]:
        first -= 1
    last = index
    while last < len(ends) - 1 and last - first < _MOST_WORDS and not ends[last]:
        last += 1
    whole = (first == 0 or ends[first - 1]) and (last == len(ends) - 1 or ends[last])
    return (first, last) if whole else (index, index)
