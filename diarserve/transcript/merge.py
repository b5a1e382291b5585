"""Who said each word: words from the recogniser and turns from the diarizer, joined. Pure functions.

A word goes to the speaker whose turns cover most of it; one that no turn covers goes to the nearest turn's edge,
not to the nearest midpoint. Every word gets a speaker or UNKNOWN, a confidence, and who else's turns touch it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from diarserve.transcript.confidence import margins, probability
from diarserve.transcript.document import UNKNOWN
from workers.messages import SpeakerActivity, Turn, Word
from workers.words import ends_sentence

_REACH = 2.0  # seconds from the nearest turn's edge beyond which a word's speaker is UNKNOWN
_PAUSE = 1.0  # seconds of silence that end a segment
_SENTENCE = 8.0  # seconds after which a segment ends with its sentence
_LONGEST = 30.0  # seconds after which a segment ends in any case
_SLACK = 0.6  # seconds by which a change of speaker may be moved to the end of a sentence
_TIE = 0.02  # seconds; coverages closer than this are equal


class LabelledWord(NamedTuple):  # made faster than a frozen dataclass
    word: str
    start: float
    end: float
    probability: float
    speaker: str
    speaker_confidence: float  # probability that the speaker is right; without activity, share that turns cover
    overlap: bool  # more than one speaker's turn touches the word
    other_speakers: tuple[str, ...] = ()  # whose turns touch the word too, those first that share most of it
    language: str = ""  # as in workers.messages.Word


def label(words: Sequence[Word], turns: Sequence[Turn], activity: SpeakerActivity | None = None) -> list[LabelledWord]:
    """Give every word its speaker. `turns` sorted by start. `activity`: what makes the confidence a probability."""
    turns = [turn for turn in turns if turn.start < turn.end]
    starts = [turn.start for turn in turns]
    latest_end = list(accumulate((turn.end for turn in turns), max))  # up to each turn: sorted, so bisectable
    labelled: list[LabelledWord] = []
    speaker = UNKNOWN
    others: tuple[str, ...]
    for word in words:
        start, end = word.start, word.end
        first, last = bisect_right(latest_end, start), bisect_left(starts, end)
        if last == first + 1 and turns[first].start <= start < end <= turns[first].end:
            speaker, confidence, others = turns[first].speaker, 1.0, ()  # as for most words
        elif first < last and start < end:
            speaker, confidence, others = _covering(word, turns[first:last], speaker)
        else:
            near = turns[bisect_left(latest_end, start - _REACH) : bisect_right(starts, end + _REACH)]
            speaker, confidence, others = _nearest(word, near), 0.0, ()
        labelled.append(
            LabelledWord(
                word.word, start, end, word.probability, speaker, confidence, bool(others), others, word.language
            )
        )
    settled = _at_sentence_ends(_without_flicker(labelled))
    return _probable(settled, activity) if activity else settled


def groups(words: Iterable[LabelledWord]) -> list[list[LabelledWord]]:
    """Consecutive words of one speaker, ended by a change of speaker or language, a pause, or a long sentence's end."""
    found: list[list[LabelledWord]] = []
    for word in words:
        if found and _continues(found[-1], word):
            found[-1].append(word)
        else:
            found.append([word])
    return found


def _covering(word: Word, turns: Sequence[Turn], previous: str) -> tuple[str, float, tuple[str, ...]]:
    """The word's speaker, the confidence, and the others whose turns touch it. The turns begin before the word ends,
    and the first of them ends after it starts."""
    covered: dict[str, float] = {}
    for turn in turns:
        shared = min(word.end, turn.end) - max(word.start, turn.start)
        if shared > 0:
            covered[turn.speaker] = covered.get(turn.speaker, 0.0) + shared
    most = max(covered.values())
    equal = [speaker for speaker, seconds in covered.items() if seconds >= most - _TIE]
    # Where two speakers cover the word equally, the one of the word before keeps it.
    speaker = previous if previous in equal else equal[0]
    confidence = min(1.0, covered[speaker] / max(word.end - word.start, 1e-3)) / len(equal)
    others = sorted((other for other in covered if other != speaker), key=covered.__getitem__, reverse=True)
    return speaker, round(confidence, 3), tuple(others)


def _nearest(word: Word, turns: Sequence[Turn]) -> str:
    turn = min(turns, key=lambda turn: _gap(word, turn), default=None)
    return turn.speaker if turn and _gap(word, turn) <= _REACH else UNKNOWN


def _gap(word: Word, turn: Turn) -> float:
    return max(turn.start - word.end, word.start - turn.end, 0.0)


def _without_flicker(words: list[LabelledWord]) -> list[LabelledWord]:
    """Give a single word between words of one other speaker to that speaker, where less than half of it is covered by
    the turns of its own."""
    repaired = words[:]
    for index in range(1, len(words) - 1):
        before, word, after = repaired[index - 1], words[index], words[index + 1]
        sandwiched = before.speaker == after.speaker != word.speaker
        flowing = word.start - before.end < 0.3 and after.start - word.end < 0.3
        if sandwiched and flowing and word.speaker_confidence < 0.5:
            repaired[index] = _given(word, before.speaker)
    return repaired


def _at_sentence_ends(words: list[LabelledWord]) -> list[LabelledWord]:
    """Move a change of speaker to the end of the sentence beside it, if that is a word away: Whisper's word times
    and the turns' edges are both a few tenths of a second off, and people change places between sentences."""
    moved = words[:]
    for index in range(1, len(words)):
        before, word = moved[index - 1], moved[index]
        if before.speaker == word.speaker or ends_sentence(before.word):
            continue
        if (
            ends_sentence(word.word)
            and not _opens_sentence(word)
            and word.end - word.start < _SLACK
            and word.start - before.end < _SLACK
        ):
            moved[index] = _given(word, before.speaker)
        elif index > 1 and ends_sentence(moved[index - 2].word) and word.start - before.start < _SLACK:
            moved[index - 1] = _given(before, word.speaker)
    return moved


def _given(word: LabelledWord, speaker: str) -> LabelledWord:
    """To another speaker than the one whose turns cover it, if any do."""
    touching = (word.speaker, *word.other_speakers) if word.speaker_confidence else word.other_speakers
    others = tuple(other for other in touching if other != speaker)
    return word._replace(speaker=speaker, speaker_confidence=0.0, other_speakers=others)


def _probable(words: Sequence[LabelledWord], activity: SpeakerActivity) -> list[LabelledWord]:
    margin_of = margins(activity)
    made = []
    for said in words:
        word, start, end, certainty, speaker, confidence, overlap, others, language = said
        if (margin := margin_of(speaker, start, end)) is not None:
            confidence = probability(activity, margin)
        made.append(LabelledWord(word, start, end, certainty, speaker, confidence, overlap, others, language))
    return made


def _opens_sentence(word: LabelledWord) -> bool:
    return word.word.strip()[:1].isupper()


def _continues(group: list[LabelledWord], word: LabelledWord) -> bool:
    last, length = group[-1], group[-1].end - group[0].start
    if (
        (word.speaker, word.language) != (last.speaker, last.language)
        or word.start - last.end > _PAUSE
        or length > _LONGEST
    ):
        return False
    return not (length > _SENTENCE and ends_sentence(last.word))
