"""One live session: audio in, events out, and at the end the document of the whole."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from diarserve.core.errors import LiveTimeout, RateLimited, ServiceError, TooLarge, is_storage_full
from diarserve.core.settings import Live
from diarserve.live.audio_file import AudioFile
from diarserve.live.events import Broken, Ended, Event, Lag, SpeechStarted, Spoken, UtteranceEnd
from diarserve.live.labels import Labels
from diarserve.live.options import LiveOptions
from diarserve.live.outbox import Outbox
from diarserve.live.unpacking import Unpacking
from diarserve.observe.metrics import Metrics
from diarserve.pool.live_job import LiveJob, OnOutput
from diarserve.transcript.document import Document
from workers.messages import SAMPLE_RATE, Done
from workers.messages.live import LiveOutput, LiveTurns, LiveWords
from workers.runtime.logs import log_context

log = logging.getLogger(__name__)

_TOLD_LAG = 2.0  # seconds from which on a client is told of it, and by which it changes before it is told again

OpenJob = Callable[[OnOutput], LiveJob]
OpenUnpacking = Callable[[Callable[[bytes], Awaitable[None]], Callable[[ServiceError], None]], Unpacking]


class LiveSession:
    """From diarserve.live.sessions.LiveSessions.open. Everything is called on the event loop; close it in the end.

    session = sessions.open(LiveOptions(), owner="")
    try:
        await session.append(pcm)  # 16-bit little-endian mono 16 kHz, in pieces of any length
        await session.finish()
        async for event in session.events():  # beside `append`, in a task of its own
            print(event)  # ... Ended(document), or Broken(error)
    finally:
        await session.close()
    """

    def __init__(
        self,
        task_id: str,
        options: LiveOptions,
        audio: AudioFile,
        limits: Live,
        metrics: Metrics,
        count: Callable[[float], None],
        unpack: OpenUnpacking,
        finished: Callable[[], Awaitable[Document]],
        released: Callable[[], None],
    ) -> None:
        """count: is told how many seconds there will be; raises RateLimited where the owner may not have so many.
        unpack: begins to decode a recording. finished: makes the document of the whole. released: called once, when
        the session is over."""
        self.task_id = task_id  # of the document: result/{task_id}
        self.options = options
        self._audio, self._limits, self._metrics = audio, limits, metrics
        self._count, self._unpack, self._finished, self._released = count, unpack, finished, released
        self._unpacking: Unpacking | None = None  # once a piece of a recording has come
        self._labels, self._outbox = Labels(), Outbox()
        self._listening: LiveJob | None = None
        self._following: LiveJob | None = None
        self._followed: asyncio.Future[Done[Any]] | None = None  # the end of it
        self._heard = 0.0  # seconds that are recognized
        self._caught_up = asyncio.Event()
        self._told_lag = 0.0
        self._utterance = 0
        self._finishing = False
        self._error: ServiceError | None = None  # why it was ended
        self._appended = time.monotonic()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._work: asyncio.Task[None] | None = None

    def start(self, listen: OpenJob, follow: OpenJob | None) -> None:
        """follow: None where no diarizer takes live audio. Raises NotReady."""
        self._listening = listen(self._on_output)
        try:
            self._following = follow(self._on_output) if follow else None
        except BaseException:
            self._listening.close()
            raise
        self._labels.follows = self._following is not None
        if self._following:
            self._followed = asyncio.ensure_future(self._following.result())
            self._followed.add_done_callback(self._on_followed)
        self._work = asyncio.create_task(self._run())
        self._work.add_done_callback(self._give_back)  # also where it is closed before it begins
        self._look_for_idleness()

    @property
    def seconds(self) -> float:
        """Of audio that came."""
        return self._audio.seconds

    @property
    def lag(self) -> float:
        """Seconds of audio that are here and not yet recognized."""
        return self._audio.seconds - self._heard

    async def append(self, pcm: bytes) -> None:
        """16-bit little-endian mono 16 kHz, in pieces of any length. Waits while recognition is `max_lag` seconds
        behind. After `finish` it does nothing. Raises TooLarge where the session is as long as it may be (finish it),
        RateLimited where its owner has no more audio-hours (finish it too), StorageFull, and the error of a session
        that has ended."""
        if self._finishing:
            return
        self._require_open()
        while self.lag > self._limits.max_lag and self._error is None and not self._outbox.ended:
            self._caught_up.clear()
            await self._caught_up.wait()
        self._require_open()
        seconds = self._audio.seconds + len(pcm) / (2 * SAMPLE_RATE)
        if seconds > self._limits.max_seconds:
            raise TooLarge(f"A live session is {self._limits.max_seconds:.0f} s long at most.")
        self._count(seconds)
        self._appended = time.monotonic()
        self._audio.append(pcm)
        self._metrics.live_audio.inc(len(pcm) / (2 * SAMPLE_RATE))
        self._tell_workers()

    async def append_recording(self, data: bytes) -> None:
        """A piece of a recording in a container (WebM, Ogg, MP3, ...), cut anywhere, in place of samples; the decoder's
        process decodes it. As `append`; what cannot be decoded ends the session."""
        if self._finishing:
            return
        self._require_open()
        self._appended = time.monotonic()
        if self._unpacking is None:
            self._unpacking = self._unpack(self.append, self._break)
        await self._unpacking.feed(data)

    async def finalize(self) -> None:
        """Everything heard becomes final, told by UtteranceEnd(finalized=True) after its words; the session goes on."""
        self._require_open()
        self._appended = time.monotonic()
        if not self._finishing:
            self._tell_workers(flush=True)

    async def keep_alive(self) -> None:
        """The client is there, though it sends no audio."""
        self._appended = time.monotonic()

    async def finish(self) -> None:
        """No more audio comes. The rest becomes final, which is not waited for, then the whole is done by the offline
        path, and `events` ends with Ended. May be called again."""
        if self._unpacking and not self._finishing and self._error is None:
            with suppress(TooLarge, RateLimited):
                await self._unpacking.end()
            self._unpacking.close()
        if not self._finishing and self._error is None:
            self._finishing = True
            self._tell_workers(end=True)

    async def events(self) -> AsyncIterator[Event]:
        """Once. Ends after Ended or Broken, or when the session is closed."""
        async for event in self._outbox.read():
            yield event

    async def close(self) -> None:
        """The client is gone: everything is given back. A document that is being made is made, where it is kept. May be
        called again."""
        if self._work:
            self._work.cancel()
            await asyncio.wait((self._work,))

    def _require_open(self) -> None:
        if self._error:
            raise self._error

    def _tell_workers(self, *, flush: bool = False, end: bool = False) -> None:
        for job in (self._listening, self._following):
            if job:
                job.append(self._audio.samples, flush=flush, end=end)

    async def _run(self) -> None:
        """The whole session, from its first sample on."""
        assert self._listening
        try:
            with log_context(self.task_id):
                await self._listening.result()
                if self._followed:
                    await asyncio.wait((self._followed,))
                self._flush()
                self._audio.finish()
                self._outbox.put(Spoken())
                self._outbox.put(Ended(await self._finished()))
        except asyncio.CancelledError:
            if self._error is None:  # it was closed
                raise
        except ServiceError as error:
            self._error = error
        except Exception as error:
            with log_context(self.task_id):
                log.exception("a live session failed")
            self._error = ServiceError("The session ended by a fault of the server; its log says why.")
            if is_storage_full(error):
                self._error = ServiceError("There is no room left on the server's disk.", code="storage_full")

    def _on_followed(self, end: asyncio.Future[Done[Any]]) -> None:
        """Without its turns a session goes on, and words do not wait for any: the document has its speakers all the
        same."""
        if not end.cancelled() and (error := end.exception()):
            with log_context(self.task_id):
                log.warning("live words have no more speakers: %s", error)
            self._labels.follows = False
            self._release()

    def _give_back(self, work: asyncio.Task[None]) -> None:
        outcome = self._error.code if self._error else "left" if work.cancelled() else "completed"
        self._metrics.live_ended.labels(outcome).inc()
        for timer in self._timers.values():
            timer.cancel()
        for job in (self._listening, self._following):
            if job:
                job.close()
        self._audio.close()
        if self._unpacking:
            self._unpacking.close()
        if self._error:
            self._outbox.put(Broken(self._error))
        self._outbox.end()
        self._caught_up.set()
        self._released()

    def _break(self, error: ServiceError) -> None:
        if self._error is None and self._work and not self._work.done():
            self._error = error
            self._work.cancel()

    def _on_output(self, output: LiveOutput) -> None:
        if isinstance(output, LiveTurns):
            for correction in self._labels.settle(output):
                self._put(correction)
        elif isinstance(output, LiveWords):
            self._on_words(output)
        self._release()

    def _on_words(self, output: LiveWords) -> None:
        if output.speech_started is not None:
            self._put(SpeechStarted(output.speech_started))
        self._labels.hear(output.final, self._utterance, time.monotonic())
        if output.utterance_end is not None or output.flushed:
            end = output.heard if output.utterance_end is None else output.utterance_end
            self._labels.end(UtteranceEnd(self._utterance, end, finalized=output.flushed))
            self._utterance += 1
        self._release()
        if self.options.interim and (output.interim or output.final):
            self._put(self._labels.interim(output.interim))
        self._heard = max(self._heard, output.heard)
        self._note_lag()

    def _note_lag(self) -> None:
        self._metrics.live_lag.observe(self.lag)
        if self.lag <= self._limits.max_lag:
            self._caught_up.set()
        if abs(self.lag - self._told_lag) >= _TOLD_LAG:
            self._told_lag = self.lag
            self._put(Lag(round(self.lag, 2)))

    def _release(self) -> None:
        """Tell the final words that need not wait for their speakers any longer, and look again when others do not."""
        now = time.monotonic()
        for event in self._labels.release(now):
            self._put(event)
        if (wait := self._labels.due() - now) < 3600:
            self._after("release", max(wait, 0.01), self._release)

    def _flush(self) -> None:
        """Everything is heard, and every turn is known."""
        for event in (*self._labels.last_corrections(), *self._labels.release(time.monotonic(), everything=True)):
            self._put(event)

    def _put(self, event: Event) -> None:
        self._outbox.put(event)
        if self._outbox.full:
            self._break(LiveTimeout("The events of this session were not read in time.", code="slow_reader"))

    def _look_for_idleness(self) -> None:
        left = self._appended + self._limits.idle_timeout - time.monotonic()
        if self._finishing:
            return
        if left <= 0:
            self._break(LiveTimeout(f"No audio came for {self._limits.idle_timeout:.0f} s.", code="live_idle"))
        else:
            self._after("idle", left, self._look_for_idleness)

    def _after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        if timer := self._timers.get(name):
            timer.cancel()
        if self._work and not self._work.done():
            self._timers[name] = asyncio.get_running_loop().call_later(seconds, call)
