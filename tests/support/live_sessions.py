"""Live sessions without models, for tests of what is spoken over WebSockets: a second of audio is a word, and two
people speak in turn. The first sample of each second tells more, where it is not 0: see ORDERS."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

from diarserve.core.errors import Busy, InvalidRequest, NotReady
from diarserve.live.events import (
    Broken,
    Correction,
    Ended,
    Event,
    Final,
    Interim,
    SpeechStarted,
    Spoken,
    UtteranceEnd,
)
from diarserve.live.options import LiveOptions
from diarserve.transcript.document import Word
from tests.support.documents import document

SECOND = 32_000  # bytes
PAUSE, CORRECT, BREAK, FAIL, FLOOD = 1, 2, 3, 4, 5
ORDERS = {
    PAUSE: "the utterance ends after this word",
    CORRECT: "this word and the one before it are SPEAKER_01's",
    BREAK: "the session breaks",
    FAIL: "append raises what nobody expects",
    FLOOD: "events without end",
}


def second(order: int = 0, rate: int = 16_000) -> bytes:
    """A second of samples."""
    return struct.pack("<h", order) + bytes(2 * rate - 2)


class StandInSession:
    def __init__(self, listening: LiveOptions, owner: str, sessions: StandInSessions) -> None:
        self.listening, self.owner = listening, owner
        self.task_id = f"{len(sessions.opened):032}"
        self.pcm, self.recording = bytearray(), bytearray()
        self.alive = 0  # times that the client said so
        self.closed = asyncio.Event()
        self._sessions = sessions
        self._words: list[Word] = []
        self._utterance = 0
        self._told: asyncio.Queue[Event] = asyncio.Queue()
        self._flood = self._ended = False

    async def append(self, pcm: bytes) -> None:
        if self.closed.is_set():
            raise OSError("its audio is gone")
        self.pcm += pcm
        while len(self.pcm) >= SECOND * (len(self._words) + 1):
            self._word()

    @property
    def seconds(self) -> float:
        return len(self.pcm) / SECOND

    async def append_recording(self, data: bytes) -> None:
        """As if it were samples."""
        self.recording += data
        await self.append(data)

    async def keep_alive(self) -> None:
        self.alive += 1

    async def finalize(self) -> None:
        self._end(finalized=True)

    async def finish(self) -> None:
        self._end(finalized=True)
        said = [(word.word, word.speaker) for word in self._words]
        self._tell(Spoken())
        self._tell(Ended(document(*said)))

    async def close(self) -> None:
        self.closed.set()

    async def events(self) -> AsyncIterator[Event]:
        while True:
            event = await self._told.get()
            yield event
            if isinstance(event, (Ended, Broken)):
                return
            while self._flood:
                await asyncio.sleep(0)
                yield Final(0, 0, tuple(self._words) * 200)

    def _word(self) -> None:
        number = len(self._words)
        [order] = struct.unpack("<h", self.pcm[number * SECOND :][:2])
        if number == 0 or self._ended:
            self._tell(SpeechStarted(number + 0.1))
        self._ended = False
        word = Word(f"Word{number},", number + 0.1, number + 0.6, 0.9, f"SPEAKER_0{number % 2}", 0.8, overlap=False)
        if self.listening.interim:
            self._tell(Interim((word,)))
        self._words.append(word)
        self._tell(Final(number, self._utterance, (word,)))
        if order == PAUSE:
            self._end()
        elif order == CORRECT:
            self._tell(Correction(number - 1, number + 1, "SPEAKER_01"))
        elif order == BREAK:
            self._tell(Broken(NotReady("No worker is left.", retry_after=5)))
        elif order == FAIL:
            raise ValueError("as an order says")
        elif order == FLOOD:
            self._flood = True

    def _end(self, *, finalized: bool = False) -> None:
        self._ended = True
        self._tell(UtteranceEnd(self._utterance, self._words[-1].end if self._words else 0.0, finalized))
        self._utterance += 1

    def _tell(self, event: Event) -> None:
        self._told.put_nowait(event)


class StandInSessions:
    def __init__(self, most: int = 4) -> None:
        self.opened: list[StandInSession] = []
        self._most = most

    async def close(self) -> None:
        pass

    def open(self, listening: LiveOptions, owner: str = "", hours: float | None = None) -> StandInSession:
        if sum(not session.closed.is_set() for session in self.opened) >= self._most:
            raise Busy("There are as many live sessions as may be.", retry_after=5)
        if listening.options.whisper_model == "absent":
            raise InvalidRequest("This model is not available.", code="model_unavailable", param="whisper_model")
        self.opened.append(StandInSession(listening, owner, self))
        return self.opened[-1]
