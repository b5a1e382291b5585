"""OpenAI's Realtime protocol, of transcription sessions. https://platform.openai.com/docs/api-reference/realtime"""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from diarserve.core.errors import InvalidRequest, ServiceError
from diarserve.http.live import conversation
from diarserve.http.live.realtime_items import Items, Message, message, problem
from diarserve.http.live.realtime_options import TranscriptionSession, from_old, to_old, updated
from diarserve.live.events import Ended, Event, UtteranceEnd
from diarserve.live.options import LiveOptions
from diarserve.live.session import LiveSession

if TYPE_CHECKING:
    from workers.media.sample_stream import SampleStream

_LEAST = 3200  # bytes of 16 kHz samples that can be committed: 100 ms, as OpenAI has it

Reopen = Callable[[LiveOptions], LiveSession]


class Realtime:
    """The session is opened before the handshake, so that a limit is answered instead of it, and again where the client
    asks for another language or model before it sends audio."""

    ends_on_error = False
    last: tuple[type[Struct], ...] = (Ended,)

    def __init__(self, session: LiveSession, reopen: Reopen, accepted: Iterable[str], *, old: bool) -> None:
        """old: whether the client speaks the dialect of `transcription_session.update`."""
        self.session = session
        self._reopen, self._accepted, self._old = reopen, tuple(accepted), old
        self._id = f"sess_{uuid.uuid4().hex[:21]}"
        self._config = TranscriptionSession()
        self._listening = self._config.listening(self._accepted)
        self._samples = self._sample_stream()
        self._uncommitted = 0  # bytes
        self._begun = asyncio.Event()
        self._final = asyncio.Event()  # all that was to become final is
        self._items = Items()
        self._heard_id: object = None  # of the client's last message

    def greet(self) -> Iterable[object]:
        return [self._described("created")]

    async def hear(self, message: str | bytes, send: conversation.Send) -> None:
        self._heard_id = None
        if isinstance(message, bytes):
            raise InvalidRequest("Messages are JSON; audio is sent by input_audio_buffer.append.")
        event = conversation.decoded(message)
        self._heard_id = event.get("event_id")
        match event.get("type"):
            case "session.update":
                await send(await self._update(event.get("session"), old=False))
            case "transcription_session.update":
                await send(await self._update(from_old(event.get("session")), old=True))
            case "input_audio_buffer.append":
                await self._append(event.get("audio"))
            case "input_audio_buffer.commit":
                await self._commit(send)
            case "input_audio_buffer.clear":
                await self._clear(send)
            case _:
                raise InvalidRequest("This type of message is not for transcription sessions.", param="type")

    async def begun(self) -> None:
        await self._begun.wait()

    def tell(self, event: Event, following: Event | None) -> Iterable[object]:
        if isinstance(event, UtteranceEnd) and event.finalized:
            self._final.set()
        return self._items.tell(event)

    def refuse(self, error: ServiceError) -> object:
        return problem(error, self._heard_id)

    async def _update(self, update: Any, *, old: bool) -> Message:
        config = updated(self._config, update)
        await self._listen(config.listening(self._accepted))
        same_format = config.audio.input.format == self._config.audio.input.format
        self._config, self._old = config, old
        self._items.manual = config.audio.input.turn_detection is None
        if not same_format:
            await self._take(self._samples.flush())
            self._samples = self._sample_stream()
        return self._described("updated")

    async def _listen(self, listening: LiveOptions) -> None:
        """Open the session anew where something else is to be listened for. Where that cannot be done it stays."""
        if listening == self._listening:
            return
        if self._begun.is_set():
            raise InvalidRequest(
                "The model, the language, the prompt and the silence that ends an utterance cannot change once "
                "audio has come: open another session.",
                param="session.audio.input",
            )
        await self.session.close()
        try:
            self.session = self._reopen(listening)
        except InvalidRequest:
            self.session = self._reopen(self._listening)
            raise
        self._listening = listening

    async def _append(self, audio: object) -> None:
        if not isinstance(audio, str):
            raise InvalidRequest("audio must be base64 text.", param="audio")
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest("audio is no base64.", param="audio") from error
        await self._take(self._samples.feed(data))

    async def _take(self, pcm: bytes) -> None:
        if pcm:
            self._begun.set()
            self._uncommitted += len(pcm)
            await self.session.append(pcm)

    async def _commit(self, send: conversation.Send) -> None:
        await self._take(self._samples.flush())
        if self._uncommitted < _LEAST:
            raise InvalidRequest(
                f"At least 100 ms of audio can be committed; there are {self._uncommitted / 32:.0f} ms.",
                code="input_audio_buffer_commit_empty",
            )
        self._uncommitted = 0
        for told in self._items.commit():
            await send(told)
        await self._finalized()

    async def _clear(self, send: conversation.Send) -> None:
        self._samples.flush()
        empty, self._uncommitted = not self._uncommitted, 0
        if not empty:
            self._items.clear()
        await send(message("input_audio_buffer.cleared"))
        if not empty:
            await self._finalized()

    async def _finalized(self) -> None:
        """Later audio waits: it would become part of the item."""
        self._final.clear()
        await self.session.finalize()
        await self._final.wait()

    def _sample_stream(self) -> SampleStream:
        from workers.media.sample_stream import SampleStream  # numpy, for who streams

        format = self._config.audio.input.format
        if format.type == "audio/pcm":
            return SampleStream("pcm_s16le", format.rate, 1)
        return SampleStream("mulaw" if format.type == "audio/pcmu" else "alaw", 8000, 1)

    def _described(self, what: str) -> Message:
        if self._old:
            shown = {"id": self._id, "object": "realtime.transcription_session", **to_old(self._config)}
            return message(f"transcription_session.{what}", session=shown)
        shown = {"id": self._id, "object": "realtime.transcription_session", **self._config.model_dump()}
        return message(f"session.{what}", session=shown)
