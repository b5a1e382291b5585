"""A finished document while it is changed by hand. It knows nothing of tasks, stores or HTTP.

    draft = Draft(document)
    draft.change(Rename("SPEAKER_00", "Ann"))
    draft.change(Correct(3, 4, "a beep"))
    better = draft.document(revision=1)

Segments are made anew of the words, by the same rules as at first. A turn is divided among the speakers whom its words
have been given to, in the middle of the pauses between them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby, pairwise

import msgspec
from msgspec import UNSET, UnsetType

from diarserve.core.errors import InvalidRequest
from diarserve.core.options import speaker_name
from diarserve.transcript.changes import Assign, Correct, Edit, Rename
from diarserve.transcript.document import UNKNOWN, Document, Segment, Turn
from diarserve.transcript.join import segments
from diarserve.transcript.merge import LabelledWord
from diarserve.transcript.subtitles import spelled

_UNSPACED = ("zh", "ja", "th", "lo", "my", "yue")  # languages without spaces between words, as Whisper has them
_LONGEST = 1000  # words of one correction: they are compared with each other


@dataclass(slots=True)
class _Word:
    said: LabelledWord  # its text with the space before it; its speakers as at first
    speaker: int
    diarized: int  # its speaker at first
    channel: int | UnsetType
    given: bool = False  # by hand


class _Speakers:
    """Numbers that stay, of speakers whose names change."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: list[str] = []
        self._merged: list[int] = []  # into which speaker, by number; itself where it was not
        self._numbers: dict[str, int] = {}
        for name in names:
            self.number(name)

    def number(self, name: str) -> int:
        """Of that speaker, who is new where nobody has the name."""
        if name not in self._numbers:
            self._numbers[name] = len(self._names)
            self._merged.append(len(self._names))
            self._names.append(name)
        return self._numbers[name]

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    def rename(self, old: str, new: str) -> None:
        number = self._numbers.pop(old)
        if new in self._numbers:
            self._merged[number] = self._numbers[new]
        else:
            self._names[number] = new
            self._numbers[new] = number

    def current(self, number: int) -> int:
        while self._merged[number] != number:
            number = self._merged[number]
        return number

    def name(self, number: int) -> str:
        return self._names[self.current(number)]


class Draft:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._first = tuple(document.speakers)
        self._speakers = _Speakers(self._first)
        self._words = [word for segment in document.segments for word in self._words_of(segment)]

    def change(self, edit: Edit) -> None:
        """Raises InvalidRequest."""
        match edit:
            case Rename(speaker, name):
                self._rename(speaker, name)
            case Assign(first, past, speaker):
                words = self._range(first, past)
                number = self._speakers.number(self._known_or_new(speaker))
                self._words[first:past] = [replace(word, speaker=number, given=True) for word in words]
            case Correct(first, past, text):
                self._words[first:past] = _corrected(self._range(first, past), text.split())

    def document(self, revision: int) -> Document:
        parts = self._segments()
        turns = tuple(self._turns())
        return msgspec.structs.replace(
            self._document,
            text=" ".join(part.text for part in parts),
            speakers=tuple(sorted({turn.speaker for turn in turns} | {part.speaker for part in parts})),
            segments=parts,
            turns=turns,
            revision=revision,
            speaker_matches=self._renamed(self._document.speaker_matches),
            speaker_embeddings=self._renamed(self._document.speaker_embeddings),
        )

    def _words_of(self, segment: Segment) -> Iterable[_Word]:
        speaker = self._speakers.number(segment.speaker)
        spaced = " " in segment.text or segment.language not in _UNSPACED
        for word, text in zip(segment.words, spelled(segment), strict=True):
            if word is segment.words[0] and spaced:
                text = " " + text.lstrip()
            said = LabelledWord(
                text,
                word.start,
                word.end,
                word.probability,
                word.speaker,
                word.speaker_confidence,
                word.overlap,
                word.other_speakers,
                segment.language,
            )
            yield _Word(said, speaker, speaker, segment.channel)

    def _range(self, first: int, past: int) -> list[_Word]:
        if not first < past <= len(self._words):
            raise InvalidRequest(
                f"There are no words from {first} up to {past}: the transcript has {len(self._words)}.", param="changes"
            )
        return self._words[first:past]

    def _rename(self, speaker: str, name: str) -> None:
        if speaker not in self._speakers:
            raise InvalidRequest(f"There is no speaker {speaker!r} in this transcript.", param="changes")
        if name != speaker:
            self._speakers.rename(speaker, self._known_or_new(name))

    def _known_or_new(self, name: str) -> str:
        if name in self._speakers or name in self._first or name == UNKNOWN:
            return name
        try:
            return speaker_name(name)
        except ValueError as error:
            raise InvalidRequest(f"{error}.", param="changes") from error

    def _segments(self) -> tuple[Segment, ...]:
        by_channel = sorted(self._words, key=lambda word: word.channel if word.channel is not UNSET else -1)
        found: list[Segment] = []
        for channel, words in groupby(by_channel, lambda word: word.channel):
            labelled = map(self._labelled, words)
            made = segments(list(labelled), self._document.language)
            found += (msgspec.structs.replace(segment, channel=channel) for segment in made)
        if any(segment.channel is not UNSET for segment in found):
            found.sort(key=lambda segment: (segment.start, segment.speaker))
        return tuple(msgspec.structs.replace(segment, id=number) for number, segment in enumerate(found))

    def _labelled(self, word: _Word) -> LabelledWord:
        speaker, said = self._speakers.name(word.speaker), word.said
        if speaker == said.speaker and not word.given and not said.other_speakers:
            return said
        others = dict.fromkeys(self._speakers.name(self._first.index(other)) for other in said.other_speakers)
        others.pop(speaker, None)
        confidence = 1.0 if word.given else said.speaker_confidence
        return said._replace(
            speaker=speaker, speaker_confidence=confidence, overlap=bool(others), other_speakers=tuple(others)
        )

    def _turns(self) -> list[Turn]:
        """Sorted by start; those of one speaker do not overlap."""
        by_speaker: dict[int, list[_Word]] = {}
        for word in sorted(self._words, key=lambda word: word.said.start):
            by_speaker.setdefault(word.diarized, []).append(word)
        pieces = [piece for turn in self._document.turns for piece in self._divided(turn, by_speaker)]
        pieces.sort(key=lambda piece: (piece.start, piece.speaker))
        last: dict[str, int] = {}  # where each speaker's newest turn is in `joined`
        joined: list[Turn] = []
        for piece in pieces:
            before = last.get(piece.speaker)
            if before is not None and piece.start <= joined[before].end:
                end = max(piece.end, joined[before].end)
                joined[before] = msgspec.structs.replace(joined[before], end=end)
            else:
                last[piece.speaker] = len(joined)
                joined.append(piece)
        return joined

    def _divided(self, turn: Turn, by_speaker: dict[int, list[_Word]]) -> list[Turn]:
        number = self._first.index(turn.speaker)
        words = by_speaker.get(number, [])
        since = bisect_right(words, turn.start, key=lambda word: word.said.end)
        until = bisect_left(words, turn.end, key=lambda word: word.said.start)
        runs = [
            (name, list(run))
            for name, run in groupby(words[since:until], lambda word: self._speakers.name(word.speaker))
        ]
        if not runs:
            return [msgspec.structs.replace(turn, speaker=self._speakers.name(number))]
        edges = [
            round((before[-1].said.end + after[0].said.start) / 2, 3) for (_, before), (_, after) in pairwise(runs)
        ]
        spans = zip([turn.start, *edges], [*edges, turn.end], runs, strict=True)
        return [Turn(start, end, name) for start, end, (name, _) in spans if start < end]

    def _renamed(self, entries: tuple[msgspec.Struct, ...] | UnsetType) -> object:
        if entries is UNSET:
            return UNSET
        return tuple(
            msgspec.structs.replace(entry, speaker=self._speakers.name(self._first.index(entry.speaker)))  # type: ignore[attr-defined]
            if entry.speaker in self._first  # type: ignore[attr-defined]
            else entry
            for entry in entries
        )


def _corrected(old: Sequence[_Word], texts: Sequence[str]) -> list[_Word]:
    if max(len(old), len(texts)) > _LONGEST:
        raise InvalidRequest(f"At most {_LONGEST} words can be corrected at a time.", param="changes")
    if not texts:
        return []
    made: list[_Word] = []
    spoken = [word.said.word.strip() for word in old]
    # `autojunk`, the default, is what bounds the time: a few words repeated a thousand times take minutes without.
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, spoken, texts).get_opcodes():
        new = texts[j1:j2]
        if kind == "equal":
            made += old[i1 + (i1 == 0 and j1 > 0) : i2]  # less the first, where it has shared its time already
        elif kind == "replace" and i2 - i1 == j2 - j1:
            made += map(_said_as, old[i1:i2], new)
        elif kind == "replace":
            made += _spread(old[i1:i2], new)
        elif kind == "insert" and made:  # shares the time of the word before
            before = made.pop()
            made += _spread([before], [before.said.word.strip(), *new])
        elif kind == "insert":  # at the very beginning: it shares the time of the word after
            made += _spread(old[:1], [*new, spoken[0]])
    return made


def _said_as(word: _Word, text: str) -> _Word:
    space = " " if word.said.word[:1].isspace() else ""
    return replace(word, said=word.said._replace(word=space + text, probability=1.0))


def _spread(old: Sequence[_Word], texts: Sequence[str]) -> list[_Word]:
    """The texts, sharing the time of these words by their lengths, and said by who said the first of them."""
    start, end = old[0].said.start, max(word.said.end for word in old)
    edges = [start]
    total = sum(map(len, texts))
    for text in texts:
        edges.append(edges[-1] + (end - start) * len(text) / total)
    made = []
    for number, text in enumerate(texts):
        space = " " if number or old[0].said.word[:1].isspace() else ""
        said = old[0].said._replace(
            word=space + text, start=round(edges[number], 3), end=round(edges[number + 1], 3), probability=1.0
        )
        made.append(replace(old[0], said=said))
    return made


def revised(document: Document, edits: Iterable[Edit], revision: int) -> Document:
    """Raises InvalidRequest."""
    draft = Draft(document)
    for edit in edits:
        draft.change(edit)
    return draft.document(revision)
