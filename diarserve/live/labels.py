"""Who says the words of a live session: final words joined with turns that become known a little later. No clock, no
input or output."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diarserve.live.events import Correction, Final, Interim, UtteranceEnd
from diarserve.transcript import document, merge
from diarserve.transcript.document import UNKNOWN
from diarserve.transcript.join import shown
from workers.messages import Turn, Word
from workers.messages.live import LiveTurns

PATIENCE = 1.0  # seconds that a word waits for its turn
HORIZON = 60.0  # seconds back in which speakers are corrected; what is older is forgotten
CONTEXT = 8  # told words before one that waits, which the rules for flicker and sentences look at


@dataclass(slots=True)
class _Held:
    """A final word that waits for its speaker."""

    word: Word
    utterance: int
    since: float


@dataclass(slots=True)
class _Told:
    number: int
    word: Word
    speaker: str
    judged: str  # by the last turns: it takes two judgements for a correction


class Labels:
    """labels = Labels()
    labels.hear(output.final, utterance=0, now=12.0)
    corrections = labels.settle(live_turns)
    events = labels.release(now=12.3)
    """

    def __init__(self) -> None:
        self.follows = True  # whether turns come: else words do not wait for them
        self._waiting: deque[_Held | UtteranceEnd] = deque()
        self._told: deque[_Told] = deque()
        self._turns: list[Turn] = []
        self._until = 0.0  # seconds up to which turns are settled
        self._count = 0  # words told

    def hear(self, words: Iterable[Word], utterance: int, now: float) -> None:
        """Final words. `now`: seconds of any clock."""
        self._waiting.extend(_Held(word, utterance, now) for word in words)

    def end(self, utterance: UtteranceEnd) -> None:
        """To be told after the words that wait."""
        self._waiting.append(utterance)

    def last_corrections(self) -> list[Correction]:
        """By the turns that are there: no others follow."""
        self._until = math.inf
        return self._corrections(last=True)

    def settle(self, output: LiveTurns) -> list[Correction]:
        """New turns; corrections of words that were told."""
        since = output.since
        kept = [turn for turn in self._turns if turn.end <= since]
        if not any(turn.start < since for turn in output.turns):  # they are cut there, so these are too
            crossing = (turn for turn in self._turns if turn.start < since < turn.end)
            kept += [Turn(turn.start, since, turn.speaker) for turn in crossing]
        self._until = max(self._until, output.until)
        oldest = self._until - HORIZON
        self._turns = sorted(
            (turn for turn in (*kept, *output.turns) if turn.end > oldest), key=lambda turn: turn.start
        )
        while self._told and self._told[0].word.end < oldest:
            self._told.popleft()
        return self._corrections(last=False)

    def _corrections(self, *, last: bool) -> list[Correction]:
        found: list[Correction] = []
        for told, labelled in zip(
            self._told, merge.label([told.word for told in self._told], self._turns), strict=True
        ):
            speaker = labelled.speaker
            if told.word.end > self._until or speaker in (UNKNOWN, told.speaker):
                told.judged = told.speaker
            elif not last and told.speaker != UNKNOWN and told.judged != speaker:
                told.judged = speaker
            else:
                told.speaker = told.judged = speaker
                if found and found[-1].past == told.number and found[-1].speaker == speaker:
                    found[-1] = Correction(found[-1].first, told.number + 1, speaker)
                else:
                    found.append(Correction(told.number, told.number + 1, speaker))
        return found

    def release(self, now: float, *, everything: bool = False) -> list[Final | UtteranceEnd]:
        """What need not wait any longer."""
        speakers = deque(self._labelled([held.word for held in self._waiting if isinstance(held, _Held)]))
        events: list[Final | UtteranceEnd] = []
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, UtteranceEnd):
                events.append(first)
            elif everything or self._is_due(first, now):
                word = speakers.popleft()
                self._told.append(_Told(self._count, first.word, word.speaker, word.speaker))
                last = events[-1] if events else None
                if isinstance(last, Final) and last.utterance == first.utterance:
                    events[-1] = Final(last.first, last.utterance, (*last.words, word))
                else:
                    events.append(Final(self._count, first.utterance, (word,)))
                self._count += 1
            else:
                break
            self._waiting.popleft()
        while not self.follows and len(self._told) > CONTEXT:  # nothing corrects them
            self._told.popleft()
        return events

    def due(self) -> float:
        """When `release` has something to tell, if nothing else comes; infinite where nothing waits."""
        first = next((held for held in self._waiting if isinstance(held, _Held)), None)
        return first.since + PATIENCE if first else math.inf

    def interim(self, words: Sequence[Word]) -> Interim:
        """With the final words that wait for their speakers."""
        held = [held.word for held in self._waiting if isinstance(held, _Held)]
        return Interim(tuple(self._labelled([*held, *words])))

    def _is_due(self, held: _Held, now: float) -> bool:
        return not self.follows or held.word.end <= self._until or now - held.since >= PATIENCE

    def _labelled(self, words: Sequence[Word]) -> list[document.Word]:
        if not words:
            return []
        before = [told.word for told in list(self._told)[-CONTEXT:]]
        return list(map(shown, merge.label([*before, *words], self._turns)[len(before) :]))
