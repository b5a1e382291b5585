"""A job whose audio keeps arriving, as the server sees it (docs/live.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from workers.messages import AudioRef, Done, LiveRequest
from workers.messages.live import Append, Awaiting, LiveEnd, LiveOutput, LiveSamples, LiveWords

OnOutput = Callable[[LiveOutput], None]


@dataclass(slots=True)
class LiveAudio:
    """What has come of the job's audio, and what its worker has made of it."""

    on_output: OnOutput
    samples: int
    flush: bool = False  # asked for, and not done
    end: bool = False
    state: bytes = b""  # of the last output
    looked_at: int = -1  # samples, as the worker said when it last had nothing to do

    @property
    def awaits(self) -> bool:
        """Whether the worker waits for more: else it owes an answer."""
        return self.looked_at >= self.samples and not (self.flush or self.end)

    def submitted(self, request: LiveRequest) -> LiveRequest:
        """The request for a worker that knows nothing of it yet."""
        self.looked_at = -1
        audio = AudioRef(request.audio.path, self.samples, request.audio.pcm)
        return replace(request, audio=audio, resume=self.state or request.resume)

    def append(self, job: str) -> Append:
        """What the worker is to be told."""
        return Append(job, self.samples, self.flush, self.end)

    def take(self, message: Awaiting) -> None:
        self.looked_at = message.samples

    def hear(self, output: LiveOutput) -> bool:
        """Whether the job got on: a worker that dies now need not do all again."""
        got_on, self.state = output.state != self.state, output.state
        if isinstance(output, LiveSamples) or (isinstance(output, LiveWords) and output.flushed):
            self.flush = False
        self.on_output(output)
        return got_on


@dataclass(slots=True, eq=False)
class LiveJob:
    """From Lane.open.

    job = lane.open(Listen(AudioRef(path, 0, pcm=0)), task="call", on_output=print)
    job.append(16_000)  # the file has one second by now
    job.append(24_000, end=True)
    await job.result()
    """

    _audio: LiveAudio
    _answer: asyncio.Future[Done[LiveEnd]]
    _changed: Callable[[bool], None]  # there is something to tell the worker; whether it waited for that
    _withdraw: Callable[[], None]

    def append(self, samples: int, *, flush: bool = False, end: bool = False) -> None:
        """samples: that are in the file by now. flush: all that was heard is to become final. end: no more comes."""
        waited = self._audio.awaits
        self._audio.samples = max(self._audio.samples, samples)
        self._audio.flush |= flush
        self._audio.end |= end
        self._changed(waited)

    async def result(self) -> Done[Any]:
        """Once no more comes and all is told. Raises as Lane.run, also before the end."""
        return await asyncio.shield(self._answer)

    def close(self) -> None:
        """End it, whatever it does. May be called again."""
        if not self._answer.done():
            self._answer.cancel()
        elif not self._answer.cancelled():
            self._answer.exception()  # it was told, or nobody asks
        self._withdraw()
