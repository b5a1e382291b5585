"""vLLM's dialect of OpenAI's Realtime, which its clients speak at /v1/realtime without `intent`. 16-bit samples at
16 kHz; the client says when its audio begins (`commit`, which changes nothing here) and ends (`commit` with `final`).

https://docs.vllm.ai/en/latest/api/vllm/entrypoints/speech_to_text/realtime/api_router/
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from diarserve.core.errors import InvalidRequest, ServiceError
from diarserve.core.options import Options, validate
from diarserve.http.live import conversation
from diarserve.http.live.realtime import Realtime
from diarserve.http.openai.options import our_model
from diarserve.live.events import Broken, Ended, Event, Final, UtteranceEnd
from diarserve.live.options import LiveOptions

if TYPE_CHECKING:
    from workers.media.sample_stream import SampleStream


class VLLM(Realtime):
    _text = ""  # since the last `transcription.done`

    def greet(self) -> Iterable[object]:
        return [{"type": "session.created", "id": self._id, "created": int(time.time())}]

    async def hear(self, message: str | bytes, send: conversation.Send) -> None:
        if isinstance(message, bytes):
            raise InvalidRequest("Messages are JSON; audio is sent by input_audio_buffer.append.")
        event = conversation.decoded(message)
        match event.get("type"):
            case "session.update":
                await self._name(event.get("model"))
            case "input_audio_buffer.append":
                await self._append(event.get("audio"))
            case "input_audio_buffer.commit":
                if event.get("final"):
                    self._begun.set()
                    await self._finalized()
            case _:
                raise InvalidRequest(
                    "type must be one of session.update, input_audio_buffer.append, input_audio_buffer.commit.",
                    param="type",
                )

    def tell(self, event: Event, following: Event | None) -> Iterable[object]:
        match event:
            case Final(words=words):
                delta = " " * bool(self._text) + " ".join(word.word for word in words)
                self._text += delta
                yield {"type": "transcription.delta", "delta": delta}
            case UtteranceEnd(finalized=True):
                yield self._done()
                self._final.set()
            case Ended() if self._text:
                yield self._done()
            case Broken(error):
                yield self.refuse(error)

    def refuse(self, error: ServiceError) -> object:
        return {"type": "error", "error": error.message, "code": error.code}

    def _done(self) -> object:
        text, self._text = self._text, ""
        return {"type": "transcription.done", "text": text, "usage": None}  # theirs are tokens

    async def _name(self, model: object) -> None:
        """The model of the session; without one it stays."""
        if model is None:
            return
        if not isinstance(model, str):
            raise InvalidRequest("model must be text.", param="model")
        options = validate(Options, {"whisper_model": our_model(model, self._accepted)})
        await self._listen(LiveOptions(options, interim=False, keep=False))

    def _sample_stream(self) -> SampleStream:
        from workers.media.sample_stream import SampleStream  # numpy, for who streams

        return SampleStream("pcm_s16le", 16_000, 1)
