"""A recording with one speaker per channel: who said what is known by where it was said. Pure functions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby
from types import MappingProxyType

import msgspec

from diarserve.transcript import document
from diarserve.transcript.join import Joined, segments
from diarserve.transcript.merge import LabelledWord
from workers.messages import Turn, Word

_PAUSE = 0.5  # seconds without a word that end a turn


def speaker(channel: int) -> str:
    """The first, or left, channel's is SPEAKER_00."""
    return f"SPEAKER_{channel:02}"


def turns_of(words: Sequence[Word]) -> list[Turn]:
    """What each channel's words, in order of time, cover with their short pauses. Sorted by start."""
    turns: list[Turn] = []
    for channel, said in _by_channel(words):
        begin, end = said[0].start, said[0].end
        for word in said[1:]:
            if word.start - end > _PAUSE:
                turns.append(Turn(begin, end, speaker(channel)))
                begin = word.start
            end = max(end, word.end)
        turns.append(Turn(begin, end, speaker(channel)))
    return sorted(turns, key=lambda turn: (turn.start, turn.speaker))


def join_channels(
    words: Sequence[Word], turns: Sequence[Turn], language: str = "", names: Mapping[str, str] = MappingProxyType({})
) -> Joined:
    """Words in order of time, and the turns that they make. `language`: of words that name none. `names`: of speakers
    who are known, as the turns have them. Segments of people who speak at the same time overlap."""
    found: list[document.Segment] = []
    for channel, said in _by_channel(words):
        name = names.get(speaker(channel), speaker(channel))
        others = [turn for turn in turns if turn.speaker != name]
        found += (
            msgspec.structs.replace(segment, channel=channel)
            for segment in segments(_labelled(said, name, others), language)
        )
    found.sort(key=lambda segment: (segment.start, segment.speaker))
    return Joined(
        text=" ".join(segment.text for segment in found),
        speakers=tuple(sorted({turn.speaker for turn in turns})),
        segments=tuple(msgspec.structs.replace(segment, id=number) for number, segment in enumerate(found)),
        turns=tuple(document.Turn(turn.start, turn.end, turn.speaker) for turn in turns),
    )


def _by_channel(words: Sequence[Word]) -> list[tuple[int, list[Word]]]:
    ordered = sorted(words, key=lambda word: (word.channel, word.start))
    return [(channel, list(said)) for channel, said in groupby(ordered, lambda word: word.channel)]


def _labelled(words: Sequence[Word], speaker: str, others: Sequence[Turn]) -> list[LabelledWord]:
    """`others`: the turns of the other channels, sorted by start."""
    starts = [turn.start for turn in others]
    latest_end = list(accumulate((turn.end for turn in others), max))
    labelled = []
    for word in words:
        near = others[bisect_left(latest_end, word.start) : bisect_left(starts, word.end)]
        touching = tuple(dict.fromkeys(turn.speaker for turn in near if turn.end > word.start))
        labelled.append(
            LabelledWord(
                word.word, word.start, word.end, word.probability, speaker, 1.0, bool(touching), touching, word.language
            )
        )
    return labelled
